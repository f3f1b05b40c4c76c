"""CloudWatch dashboards and alarms of the scores: which there are, under which names, with what.

Only what is wanted stands here, as plain data. Calling CloudWatch belongs in `aws/dashboards.py`,
the CloudFormation template in `model/cloudformation.py`.

Sources: "Dashboard Body Structure and Syntax" and "PutMetricAlarm" (CloudWatch API reference);
"CloudWatch service quotas", "Use live data", "Use metric math" and "Configuring how CloudWatch
alarms treat missing data" (CloudWatch user guide).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posture_pipeline.model.metrics import acceptable_values, published_names
from posture_pipeline.printable import printable
from posture_pipeline.settings import ENVIRONMENTS

if TYPE_CHECKING:
    import polars as pl

    from posture_pipeline.settings import Settings, Thresholds

MAX_NAME = 255
"""Characters of a dashboard's or an alarm's name (AWS: PutDashboard, PutMetricAlarm)."""
COLUMNS = 24
"""Columns of a dashboard's grid (AWS: Dashboard Body Structure)."""
MOST_REPORTS = 20
MOST_ENVIRONMENTS = 20
"""Of one dashboard. With so many it has 461 widgets of the 500 that AWS allows, and 2,000 metrics
of the 2,500 (AWS: Dashboard Body Structure; CloudWatch service quotas)."""
LOWEST_SHOWN = 10
"""Lowest scores of a report on the organization's dashboard."""
DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600

PIPELINE = "Made by posture_pipeline"
CLOUDFORMATION = "Made by CloudFormation with a template of posture_pipeline"
"""Who keeps a dashboard or an alarm up to date. The pipeline leaves the second kind alone."""

GAUGE_RANGE = "-P3D"
"""How far back a gauge looks for its newest value: a missed run leaves it in place, longer silence
leaves the gauge empty."""
TREND_RANGE = "-P3M"

RED, AMBER, GREEN = "#d62728", "#ff7f0e", "#2ca02c"

_TITLE_LENGTH = 120
_HASH_DIGITS = 10
_HASHED = re.compile(rf"-[0-9a-f]{{{_HASH_DIGITS},}}$")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")

Widget = dict[str, Any]
Body = dict[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """How a dashboard or an alarm is known to be made by this pipeline.

    Tags would not do: PutDashboard sets them only when it creates, needs another permission for
    them, and they are read one dashboard at a time (AWS: PutDashboard, Tags). So a dashboard or an
    alarm is ours if its name begins with the prefix and its text with the mark; both must hold.

    Attributes:
        prefix: First part of every name.
        mark: First words of a dashboard's first text widget, and of an alarm's description.
    """

    prefix: str
    mark: str

    @property
    def organization(self) -> str:
        """Name of the organization's dashboard."""
        return f"{self.prefix}-organization"

    @property
    def workloads(self) -> str:
        """What the names of the workloads' dashboards begin with."""
        return f"{self.prefix}-workload-"

    def may_have_made(self, name: str) -> bool:
        """Whether a dashboard's name is one that this pipeline gives."""
        return name == self.organization or name.startswith(self.workloads)

    def made(self, body: object) -> bool:
        """Whether a dashboard's body says that this pipeline made it."""
        if not isinstance(body, dict):
            return False
        for widget in body.get("widgets") or ():
            if isinstance(widget, dict) and widget.get("type") == "text":
                text = (widget.get("properties") or {}).get("markdown")
                return isinstance(text, str) and text.startswith(self.mark)
        return False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    Attributes:
        name: Accepted by CloudWatch, and no other workload's.
        workload: Whose; null for the organization's.
        body: As in "Dashboard Body Structure and Syntax".
    """

    name: str
    workload: str | None
    body: Body


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm.

    Attributes:
        name: Accepted by CloudWatch, and no other alarm's.
        workload: Whose; null for the organization's.
        properties: As PutMetricAlarm and AWS::CloudWatch::Alarm take them.
    """

    name: str
    workload: str | None
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """All dashboards and alarms that there should be, and none besides them.

    Attributes:
        owner: How those of other days are recognized.
        dashboards: The organization's first; null: dashboards are not looked after.
        alarms: Likewise.
    """

    owner: Owner
    dashboards: tuple[Dashboard, ...] | None
    alarms: tuple[Alarm, ...] | None


def owner_of(settings: Settings, made_by: str = PIPELINE) -> Owner:
    """How what is made with these settings is recognized.

    The region is in it, since dashboards are global to an account: two pipelines for two regions
    do not remove each other's.
    """
    prefix = settings.dashboards.prefix
    return Owner(prefix, f"{made_by} (prefix {prefix}, region {settings.aws.region})")


def wanted(
    workload_scores: pl.DataFrame,
    organization_scores: pl.DataFrame,
    settings: Settings,
    *,
    made_by: str = PIPELINE,
) -> Wanted:
    """The dashboards and alarms of a day's scores.

    Args:
        workload_scores: Columns of `schemas.WORKLOAD_SCORES`, of one day.
        organization_scores: Columns of `schemas.ORGANIZATION_SCORES`, of the same day.
        settings: Thresholds, namespace, region, prefix, and what the alarms wait for.
        made_by: `PIPELINE` or `CLOUDFORMATION`.

    Returns:
        A dashboard for the organization and for each workload, and all their alarms, whether the
        settings enable them or not.
    """
    owner = owner_of(settings, made_by)
    series = _series_of_workloads(workload_scores)
    own = _series_of_organization(organization_scores)
    by_workload: dict[str, list[_Series]] = {}
    for each in series:
        by_workload.setdefault(each.workload or "", []).append(each)
    names = dashboard_names(owner, by_workload)
    draw = _Drawing(owner, settings)
    dashboards = [Dashboard(owner.organization, None, draw.organization(own, series))]
    dashboards += [
        Dashboard(names[workload], workload, draw.workload(workload, of_workload))
        for workload, of_workload in sorted(by_workload.items())
    ]
    return Wanted(owner, tuple(dashboards), _alarms(owner, own, series, settings))


def enabled(found: Wanted, settings: Settings) -> Wanted:
    """Of what there could be, the kinds that the settings enable."""
    return Wanted(
        found.owner,
        found.dashboards if settings.dashboards.enabled else None,
        found.alarms if settings.alarms.enabled else None,
    )


def dashboard_names(owner: Owner, workloads: Iterable[str]) -> dict[str, str]:
    """The name of each workload's dashboard.

    The workload's own name where that can be, else something like it with a hash of it. CloudWatch
    takes letters, digits, `-` and `_`, at most 255 (AWS: PutDashboard). Only lower case is used, so
    that names which differ in case alone are told apart whatever CloudWatch does with them; and no
    workload's own name looks like one with a hash.
    """
    taken: set[str] = set()
    names = {}
    for workload in sorted(set(workloads)):
        room = MAX_NAME - len(owner.workloads)
        own = re.fullmatch(r"[a-z0-9_-]+", workload) and not _HASHED.search(workload)
        slug = workload if own and len(workload) <= room else _hashed(workload, room, taken)
        taken.add(slug)
        names[workload] = f"{owner.workloads}{slug}"
    return names


def _hashed(text: str, room: int, taken: set[str]) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    for digits in range(_HASH_DIGITS, len(digest) + 1):
        end = f"-{digest[:digits]}"
        slug = f"{_slug(text)[: room - len(end)]}{end}"
        if slug not in taken:
            break
    return slug


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-") or "unnamed"


# --- what is drawn ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Series:
    """The metrics of one score over time.

    Attributes:
        report: Slug of the report.
        workload: The workload's own name; null for the organization.
        environment: Its own name; null for the organization.
        dimensions: As published.
        score: Of the day; null where there is none.
    """

    report: str
    workload: str | None
    environment: str | None
    dimensions: tuple[tuple[str, str], ...]
    score: float | None

    def metric(self, namespace: str, name: str, **rendering: object) -> list[Any]:
        """The metric as a line of a widget's list."""
        flat = [text for pair in self.dimensions for text in pair]
        return [namespace, name, *flat, rendering]


def _series_of_workloads(scores: pl.DataFrame) -> list[_Series]:
    names = published_names(scores)
    found = [
        _Series(
            row["report"],
            row["workload"] or "",
            row["environment"] or "",
            tuple((name, values[row[name.lower()]]) for name, values in names.items()),
            row["score"],
        )
        for row in scores.select("report", "workload", "environment", "score").to_dicts()
    ]
    return sorted(found, key=lambda e: (e.report, e.workload or "", _place(e.environment or "")))


def _series_of_organization(scores: pl.DataFrame) -> list[_Series]:
    names = acceptable_values(scores["report"].unique().to_list())
    return [
        _Series(row["report"], None, None, (("Report", names[row["report"]]),), row["score"])
        for row in scores.select("report", "score").sort("report").to_dicts()
    ]


def _place(environment: str) -> tuple[int, str]:
    """The well-known environments in their order, then any other by name."""
    known = environment in ENVIRONMENTS
    return (ENVIRONMENTS.index(environment) if known else len(ENVIRONMENTS), environment)


class _Drawing:
    """Draws dashboards with one set of settings."""

    def __init__(self, owner: Owner, settings: Settings) -> None:
        self._owner = owner
        self._settings = settings
        self._namespace = settings.metrics.namespace

    def workload(self, workload: str, series: Sequence[_Series]) -> Body:
        """A gauge for each report and environment; trends of each report by environment."""
        reports = _first(sorted({each.report for each in series}), MOST_REPORTS)
        environments = _first(
            sorted({each.environment or "" for each in series}, key=_place), MOST_ENVIRONMENTS
        )
        shown = [e for e in series if e.report in reports and e.environment in environments]
        left_out = len(series) - len(shown)
        grid = _Grid()
        grid.text(self._words(f"Workload {_escaped(workload)}", left_out))
        for report in reports:
            of_report = [each for each in shown if each.report == report]
            grid.row(
                [self._gauge(f"{report}: {each.environment}", each) for each in of_report],
                width=4,
                height=5,
            )
        for report in reports:
            lines = [(e, e.environment or "") for e in shown if e.report == report]
            grid.row(self._trends(f"{report}: ", " by environment", lines), width=8, height=6)
        return self._body(grid)

    def organization(self, own: Sequence[_Series], workloads: Sequence[_Series]) -> Body:
        """A gauge and the lowest workloads of each report; trends by report."""
        shown = own[:MOST_REPORTS]
        grid = _Grid()
        grid.text(self._words("The organization", len(own) - len(shown)))
        grid.row([self._gauge(each.report, each) for each in shown], width=4, height=5)
        if shown:
            lines = [(each, each.report) for each in shown]
            grid.row(self._trends("", " by report", lines), width=8, height=6)
        lowest = {each.report: _lowest(workloads, each.report) for each in shown}
        grid.row(
            [self._bars(report, found) for report, found in lowest.items() if found],
            width=12,
            height=8,
        )
        return self._body(grid)

    def _body(self, grid: _Grid) -> Body:
        # "inherit" keeps the period of a day whatever time range a reader chooses.
        return {"start": TREND_RANGE, "periodOverride": "inherit", "widgets": grid.widgets}

    def _words(self, title: str, left_out: int) -> str:
        # The mark comes first: by it the dashboard is known as ours. AWS advises such a text.
        limits = self._settings.thresholds
        lines = [
            f"{self._owner.mark}; changes made here are replaced.",
            f"## Security posture: {title}",
            f"Scores are 0 to 100: red under {limits.red:g}, amber under {limits.amber:g}, green "
            "from there on. A gauge shows the newest score of the last three days.",
        ]
        if left_out:
            lines.append(f"{left_out} more scores do not fit here; `posture scores` has all.")
        url = self._settings.dashboards.report_url
        if url is not None:
            lines.append(f"[Report]({url})")
        return "\n\n".join(lines)

    def _gauge(self, title: str, series: _Series) -> Widget:
        return self._metric_widget(
            title,
            "gauge",
            self._newest([(series, "Score")]),
            start=GAUGE_RANGE,
            setPeriodToTimeRange=False,
            yAxis={"left": {"min": 0, "max": 100}},
            annotations={"horizontal": _bands(self._settings.thresholds)},
        )

    def _bars(self, report: str, series: Sequence[_Series]) -> Widget:
        lines = [(each, f"{each.workload} {each.environment}") for each in series]
        return self._metric_widget(
            f"{report}: lowest workloads",
            "bar",
            self._newest(lines),
            start=GAUGE_RANGE,
            setPeriodToTimeRange=False,
            yAxis={"left": {"min": 0, "max": 100}},
        )

    def _trends(
        self, before: str, after: str, lines: Sequence[tuple[_Series, str]]
    ) -> list[Widget]:
        limits = self._settings.thresholds
        marks = [
            {"label": "red under", "value": limits.red, "color": RED},
            {"label": "amber under", "value": limits.amber, "color": AMBER},
        ]
        drawn: tuple[tuple[str, str, dict[str, int], dict[str, Any]], ...] = (
            ("Score", "score", {"min": 0, "max": 100}, {"annotations": {"horizontal": marks}}),
            ("Findings", "failing findings", {"min": 0}, {}),
            ("FailedControls", "failed controls", {"min": 0}, {}),
        )
        return [
            self._metric_widget(
                f"{before}{words}{after}",
                "timeSeries",
                [each.metric(self._namespace, name, label=_plain(label)) for each, label in lines],
                stacked=False,
                yAxis={"left": axis},
                **more,
            )
            for name, words, axis, more in drawn
        ]

    def _newest(self, lines: Sequence[tuple[_Series, str]]) -> list[list[Any]]:
        """The newest score of each, as expressions over hidden metrics.

        A gauge and a bar show the newest period of their range, and before the run of the day that
        has no score yet. FILL with REPEAT gives such a period the newest score before it; an
        average or a maximum of the whole range would hide that a score fell (AWS: Use metric
        math, FILL).
        """
        rows: list[list[Any]] = []
        for number, (each, label) in enumerate(lines, start=1):
            name = f"m{number}"
            filled = {"expression": f"FILL({name}, REPEAT)", "id": f"e{number}"}
            rows.append([{**filled, "label": _plain(label)}])
            rows.append(each.metric(self._namespace, "Score", id=name, visible=False))
        return rows

    def _metric_widget(
        self, title: str, view: str, metrics: list[list[Any]], **more: object
    ) -> Widget:
        return {
            "type": "metric",
            "properties": {
                "title": _plain(title),
                "view": view,
                "metrics": metrics,
                "region": self._settings.aws.region,
                # Average, and never Sum: a run that is repeated adds a sample of the same value.
                "stat": "Average",
                "period": DAY_SECONDS,
                # Without live data a period shows only when it is over: a day late.
                "liveData": True,
                **more,
            },
        }


class _Grid:
    """Puts widgets on the grid, row under row."""

    def __init__(self) -> None:
        self.widgets: list[Widget] = []
        self._y = 0

    def text(self, markdown: str) -> None:
        """A text as wide as the grid."""
        widget = {"type": "text", "properties": {"markdown": markdown}}
        self.row([widget], width=COLUMNS, height=5)

    def row(self, widgets: Sequence[Widget], *, width: int, height: int) -> None:
        """Widgets of one size, beside each other, on as many rows as they need."""
        a_row = COLUMNS // width
        for number, widget in enumerate(widgets):
            place = {
                "x": number % a_row * width,
                "y": self._y + number // a_row * height,
                "width": width,
                "height": height,
            }
            self.widgets.append({**widget, **place})
        self._y += -(-len(widgets) // a_row) * height


def _bands(limits: Thresholds) -> list[Any]:
    """Red, amber and green as bands of a gauge; a band without height is left out."""
    edges = (
        ("red", RED, 0.0, limits.red),
        ("amber", AMBER, limits.red, limits.amber),
        ("green", GREEN, limits.amber, 100.0),
    )
    return [
        [{"label": label, "color": color, "value": low}, {"value": high}]
        for label, color, low, high in edges
        if low < high
    ]


def _lowest(workloads: Sequence[_Series], report: str) -> list[_Series]:
    scored = [each for each in workloads if each.report == report and each.score is not None]
    # A fixed list, since a SEARCH draws at most 500 metrics, and no one can choose which (AWS:
    # CloudWatch search expression syntax).
    return sorted(scored, key=lambda each: each.score or 0.0)[:LOWEST_SHOWN]


def _first(values: Sequence[str], most: int) -> list[str]:
    return list(values[:most])


def _plain(text: str) -> str:
    """A name as a title or label: one line, not too long, nothing that CloudWatch would fill in.

    A label may hold `${...}`, which CloudWatch replaces (AWS: Use dynamic labels).
    """
    line = " ".join(printable(text, " ").replace("${", "$ {").split())
    return line if len(line) <= _TITLE_LENGTH else f"{line[: _TITLE_LENGTH - 3]}..."


def _escaped(text: str) -> str:
    """A name inside markdown: only ever a text."""
    escaped = _MARKDOWN.sub(r"\\\1", _plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- alarms -------------------------------------------------------------------------------------


def _alarms(
    owner: Owner, own: Sequence[_Series], workloads: Sequence[_Series], settings: Settings
) -> tuple[Alarm, ...]:
    red = settings.thresholds.red
    chosen = settings.alarms.environments
    alarms = []
    for each in own:
        alarms.append(_heartbeat(owner, each, settings))
        name = f"{owner.prefix}-organization-score-{each.report}"
        text = f"the score of {each.report} of the organization is under {red:g}"
        alarms.append(_low_score(owner, name, text, each, settings))
    for each in workloads:
        if chosen and each.environment not in chosen:
            continue
        name = _alarm_name(owner, each)
        whose = f"{each.workload} {each.environment}"
        text = f"the score of {each.report} of {_plain(whose)} is under {red:g}"
        alarms.append(_low_score(owner, name, text, each, settings))
    return tuple(alarms)


def _alarm_name(owner: Owner, series: _Series) -> str:
    """Always with a hash: workload and environment joined alone could be those of another."""
    whole = "\n".join((series.report, series.workload or "", series.environment or ""))
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    parts = (series.report, _slug(series.workload or ""), _slug(series.environment or ""))
    text = f"{owner.prefix}-workload-score-{'-'.join(parts)}"
    return f"{text[: MAX_NAME - len(digest) - 1]}-{digest}"


def _low_score(owner: Owner, name: str, text: str, series: _Series, settings: Settings) -> Alarm:
    """Alarms when the score was under the red threshold for the set number of days.

    Days without a score are missing data: they neither raise nor clear it, and where there are only
    such days the alarm has insufficient data.
    """
    days = settings.alarms.days
    lasting = "" if days == 1 else f" for {days} days"
    return _alarm(
        owner,
        name,
        f"{text}{lasting}",
        series,
        settings,
        MetricName="Score",
        Statistic="Average",
        Period=DAY_SECONDS,
        EvaluationPeriods=days,
        DatapointsToAlarm=days,
        Threshold=settings.thresholds.red,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="missing",
    )


def _heartbeat(owner: Owner, series: _Series, settings: Settings) -> Alarm:
    """Alarms when a report was not published for the set number of hours.

    Hours are counted and not days. An alarm looks back further than its periods and prefers what it
    finds there to missing data, so with a period of a day it would stay silent for some days more
    (AWS: Configuring how CloudWatch alarms treat missing data). Period times number may be 7 days
    (AWS: PutMetricAlarm).
    """
    hours = settings.alarms.heartbeat_hours
    return _alarm(
        owner,
        f"{owner.prefix}-heartbeat-{series.report}",
        f"no score of {series.report} was published for {hours} hours",
        series,
        settings,
        # Controls and not Score: it is published on a day without a score too.
        MetricName="Controls",
        Statistic="SampleCount",
        Period=HOUR_SECONDS,
        EvaluationPeriods=hours,
        DatapointsToAlarm=hours,
        Threshold=1.0,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="breaching",
    )


def _alarm(
    owner: Owner, name: str, text: str, series: _Series, settings: Settings, **rule: object
) -> Alarm:
    topics = list(settings.alarms.topics)
    return Alarm(
        name,
        series.workload,
        {
            "AlarmName": name,
            "AlarmDescription": f"{owner.mark}: {text}.",
            "ActionsEnabled": True,
            "AlarmActions": topics,
            "OKActions": topics,
            "Namespace": settings.metrics.namespace,
            "Dimensions": [{"Name": key, "Value": value} for key, value in series.dimensions],
            **rule,
        },
    )
