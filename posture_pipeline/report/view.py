"""What stands on each page: the rows, numbers and words that the templates lay out.

Nothing here reads the lake (`data.py`) or knows HTML (`pages.py` and the templates). Every value is
plain text or a number; it is escaped where it is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from posture_pipeline.explain_words import count, moved, short_resource, what_happened
from posture_pipeline.model.backlog import RESOURCES_SCHEMA, SEVERITIES, backlog
from posture_pipeline.model.scoring import NO_FINDINGS
from posture_pipeline.report.data import Stored
from posture_pipeline.report.moves import MOVED_AT_LEAST, first_cause, incomparable, moves
from posture_pipeline.settings import Thresholds

ENVIRONMENTS = ("production", "acceptance", "test", "development", "build")
"""In this order; others follow by name."""

MOVERS_SHOWN = 10
CONTROLS_SHOWN = 12
"""Changed controls of one score on one day."""
EVIDENCE_SHOWN = 4
"""Resources of one changed control."""
BACKLOG_SHOWN = 8
RESOURCES_SHOWN = 25
"""Resources of one failing control, at most; fewer where the page would grow too large."""
EXCEPTIONS_SHOWN = 200
ENDS_SOON_DAYS = 30
"""An exception that ends within so many days is about to expire."""
_CHANGE = ["date", "scope", "workload", "environment", "report", "control_id"]
_SEVERITY_COLUMNS = {
    "Critical": "failed_critical",
    "High": "failed_high",
    "Medium": "failed_medium",
    "Low": "failed_low",
}

Row = dict[str, Any]
Parts = Mapping[tuple[object, ...], pl.DataFrame]
"""The rows of each workload."""
Evidence = dict[tuple[Any, ...], list[Row]]
"""The evidence of each changed control."""


class Views:
    """The pages of one stored day, as plain values.

    Args:
        stored: What the lake holds.
        thresholds: Where red ends and where green begins.
        pages: The file of each workload's page.
    """

    def __init__(self, stored: Stored, thresholds: Thresholds, pages: Mapping[str, str]) -> None:
        self.stored = stored
        self.thresholds = thresholds
        self.pages = pages
        self.reports = [report.name for report in stored.reports]
        # Of all that is drawn: a day without accounts has scores of the organization alone.
        dates = pl.concat([stored.organization_history["date"], stored.workload_history["date"]])
        first = dates.min()
        self.first = first if isinstance(first, date) else stored.day
        self.days = (stored.day - self.first).days + 1
        earlier = sorted({each for each in dates.unique() if each < stored.day})
        self.yesterday = earlier[-1] if earlier else None
        week = stored.day - timedelta(days=7)
        self.last_week = max((each for each in earlier if each <= week), default=None)
        is_yesterday = self.yesterday == stored.day - timedelta(days=1)
        self.since = "since yesterday" if is_yesterday else f"since {self.yesterday}"
        compared_days = [each for each in (self.yesterday, self.last_week) if each]
        self._then: dict[tuple[date, str, str, str], Row] = {
            (row["date"], row["report"], row["workload"], row["environment"]): row
            for row in stored.workload_history.filter(
                pl.col("date").is_in(compared_days)
            ).iter_rows(named=True)
        }
        self._now = _grouped(stored.workloads, "workload")
        # A rule's title is often its name, as deployed or not, which is said anyway.
        self._titles: dict[tuple[str, str], tuple[str | None, str | None]] = {
            (row["report"], row["control_id"]): (
                _other(row["control_id"], row["title"]),
                row["remediation_url"],
            )
            for rows in (stored.known, stored.expected)
            for row in rows.iter_rows(named=True)
        }
        changes = stored.changes.sort(
            pl.col("part").abs() * -1, "control_id", nulls_last=True, maintain_order=True
        )
        # Parts of frames, made rows only when their page is: a year of a large organization as
        # rows would not fit into memory. The organization's own are those without a workload.
        self._history = _parts(stored.workload_history)
        self._changes = _parts(changes)
        self._causes = _parts(_told(stored.causes))
        self._controls = _parts(stored.controls)
        self._resources = _parts(stored.resources)
        self._carried = _parts(stored.carried)

    # --- scores ---------------------------------------------------------------------------

    def band(self, score: float | None) -> str:
        """red, amber, green, or none where there is no score."""
        if score is None:
            return "none"
        if score < self.thresholds.red:
            return "red"
        return "amber" if score < self.thresholds.amber else "green"

    def _cell(self, row: Row) -> Row:
        """One score of the day, as tables and gauges show it."""
        score = row["score"]
        before = None
        if self.yesterday is not None and "workload" in row:
            key = (self.yesterday, row["report"], row["workload"], row["environment"])
            before = self._then.get(key, {}).get("score")
        change = None if score is None or before is None else score - before
        return {
            "report": row["report"],
            "environment": row.get("environment"),
            "score": score,
            "text": "no score" if score is None else f"{score:.1f}",
            "band": self.band(score),
            "resource": None if row["resource_score"] is None else f"{row['resource_score']:.1f}",
            "reason": row["reason"],
            "last": None if row["last_score"] is None else f"{row['last_score']:.1f}",
            "last_date": row["last_score_date"],
            "change": change if change is not None and abs(change) >= MOVED_AT_LEAST else None,
            "counted": None
            if row["passed"] is None
            else row["passed"] + row["failed"] + row["unknown"],
            "passed": row["passed"],
            "failed": row["failed"],
            "unknown": row["unknown"],
            "no_data": row["no_data"],
            "carried": row["carried"] or 0,
            "accounts": row["accounts"],
        }

    # --- charts ---------------------------------------------------------------------------

    def _line(self, rows: Iterable[Row], value: str = "score") -> list[float | None]:
        """A value for every calendar day; null where there is none."""
        values: list[float | None] = [None] * self.days
        for row in rows:
            number = row[value]
            values[(row["date"] - self.first).days] = None if number is None else round(number, 2)
        return values

    def _marks(self, series: Iterable[Sequence[Row]]) -> list[tuple[int, str]]:
        """Days on which the control set, the method or the settings changed, with what."""
        found: dict[int, dict[str, None]] = defaultdict(dict)
        for rows in series:
            for before, after in pairwise(rows):
                for text in incomparable(before, after):
                    found[(after["date"] - self.first).days][text] = None
        return [(day, "; ".join(texts)) for day, texts in sorted(found.items())]

    def _missing(self, rows: Iterable[Row]) -> list[tuple[int, str]]:
        """Days on which a score is missing, with whose: what fails there is not known either."""
        found: dict[int, list[str]] = defaultdict(list)
        for row in rows:
            if row["score"] is None:
                whose = row.get("environment") or row["report"]
                found[(row["date"] - self.first).days].append(whose)
        return [(day, f"no score: {', '.join(whose)}") for day, whose in sorted(found.items())]

    def _trend(self, number: int, title: str, named: Mapping[str, Sequence[Row]]) -> Row:
        return {
            "id": f"trend-{number}",
            "kind": "score",
            "title": title,
            "lines": [{"name": name, "values": self._line(rows)} for name, rows in named.items()],
            "marks": self._marks(named.values()),
            "missing": self._missing(row for rows in named.values() for row in rows),
        }

    def _findings(self, number: int, title: str, rows: Sequence[Row]) -> Row:
        sums: dict[str, list[int | None]] = {}
        for name, column in _SEVERITY_COLUMNS.items():
            values: list[int | None] = [None] * self.days
            for row in rows:
                place = (row["date"] - self.first).days
                values[place] = (values[place] or 0) + (row[column] or 0)
            sums[name] = values
        return {
            "id": f"findings-{number}",
            "kind": "count",
            "title": title,
            "lines": [{"name": name, "values": values} for name, values in sums.items()],
            "marks": [],
            "missing": self._missing(rows),
        }

    def chart_data(self, charts: Sequence[Row]) -> Row:
        """What the charts of a page need, small."""
        return {
            "first": self.first.isoformat(),
            "days": self.days,
            "red": self.thresholds.red,
            "amber": self.thresholds.amber,
            "charts": list(charts),
        }

    # --- the organization -----------------------------------------------------------------

    def organization(self) -> Row:
        """What stands on the page of the organization."""
        stored = self.stored
        now = {row["report"]: row for row in stored.organization.iter_rows(named=True)}
        history = _grouped(stored.organization_history, "report")
        kept = {name: history.get(name, []) for name in self.reports}
        charts = [
            self._trend(0, "Score of the organization, per report", kept),
            *(
                self._findings(number, f"{name}: failing findings", kept[name])
                for number, name in enumerate(self.reports)
            ),
        ]
        table = self._heat_table()
        return {
            "reports": self.reports,
            "scores": [self._cell(now[name]) for name in self.reports],
            "charts": charts,
            "data": self.chart_data(charts),
            "rows": table,
            "workloads": len({row["workload"] for row in table}),
            "environments": sorted({row["environment"] for row in table}, key=_environment),
            "movers": [
                self._movers(self.since.capitalize(), self.yesterday, causes=True),
                self._movers("Since last week", self.last_week, causes=False),
            ],
            "changed": self._changed_on(
                stored.day, _rows(self._changes, None), _evidence(_rows(self._causes, None))
            ),
            "quality": self._quality(now),
        }

    def _heat_table(self) -> list[Row]:
        cells: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
        for row in self.stored.workloads.iter_rows(named=True):
            cells[row["workload"], row["environment"]][row["report"]] = self._cell(row)
        order = sorted(cells, key=lambda key: (key[0].lower(), key[0], _environment(key[1])))
        return [
            {
                "workload": workload,
                "environment": environment,
                "page": self.pages[workload],
                "accounts": max(cell["accounts"] for cell in cells[workload, environment].values()),
                "cells": [cells[workload, environment].get(name) for name in self.reports],
                "bands": sorted({cell["band"] for cell in cells[workload, environment].values()}),
            }
            for workload, environment in order
        ]

    def _movers(self, title: str, then: date | None, *, causes: bool) -> Row:
        before = {key[1:]: row for key, row in self._then.items() if key[0] == then}
        rows = [
            self._cell(move.now)
            | {
                "workload": move.now["workload"],
                "page": self.pages[move.now["workload"]],
                "before": f"{move.before['score']:.1f}",
                "change": move.points,
                "careful": "; ".join(incomparable(move.before, move.now)),
            }
            for move in moves(self.stored.workloads.iter_rows(named=True), before)
        ]
        shown = rows[:MOVERS_SHOWN]
        return {
            "title": title,
            "then": then,
            "rows": [row | {"why": self._why(row) if causes else None} for row in shown],
            "more": max(0, len(rows) - MOVERS_SHOWN),
        }

    def _why(self, now: Row) -> str | None:
        """The control with the biggest part in the change since the day before, and its cause."""
        rows = _part(self._changes, now["workload"], self.stored.changes).filter(
            pl.col("date") == self.stored.day,
            pl.col("report") == now["report"],
            pl.col("environment") == now["environment"],
            pl.col("part") != 0,
        )
        for row in rows.head(1).iter_rows(named=True):
            return f"{row['control_id']}: {first_cause(row)}"
        return None

    def _quality(self, now: Mapping[str, Row]) -> Row:
        stored = self.stored
        one_each = stored.accounts.unique("account_id", keep="first").sort("account_id")
        silent = (
            stored.accounts.group_by("account_id")
            .agg(
                pl.col("account_name").first(),
                sent_nothing=(pl.col("reason") == NO_FINDINGS).any(),
            )
            .filter("sent_nothing")
            .sort("account_id")
        )
        withheld = stored.workloads.filter(pl.col("score").is_null()).sort(
            "workload", "environment", "report"
        )
        return {
            "coverage": [
                {
                    "report": name,
                    "accounts": now[name]["accounts"],
                    "with_data": now[name]["accounts_with_data"],
                    "expected": now[name]["expected"],
                    "controls": now[name]["controls_with_data"],
                    "regions": now[name]["regions_with_data"],
                    "carried": now[name]["carried_findings"] or 0,
                    "suppressed": now[name]["suppressed_findings"],
                    "stale": now[name]["stale_findings"] or 0,
                }
                for name in self.reports
            ],
            "collected": stored.collected,
            "incomplete": next((row["incomplete"] for row in now.values()), None),
            "without_workload": one_each.filter(pl.col("workload_source") == "account_name").rows(
                named=True
            ),
            "unlisted": _unlisted(one_each).rows(named=True),
            "silent_accounts": silent.rows(named=True),
            "incomplete_sources": None
            if stored.completeness is None
            else [
                row | {"account_name": stored.names.get(row["account_id"])}
                for row in stored.completeness.filter(pl.col("reason").is_not_null())
                .sort("account_id", "region", "report")
                .iter_rows(named=True)
            ],
            "not_scored": stored.listed.filter(pl.col("state") != "ACTIVE").rows(named=True),
            "withheld": [
                self._cell(row) | {"workload": row["workload"], "page": self.pages[row["workload"]]}
                for row in withheld.iter_rows(named=True)
            ],
            "notes": stored.expected.select("report", "note")
            .drop_nulls()
            .unique()
            .sort("report", "note")
            .rows(named=True),
        }

    # --- a workload -----------------------------------------------------------------------

    def workload(self, name: str) -> Row:
        """What stands on the page of a workload."""
        now = self._now[name]
        environments = sorted({row["environment"] for row in now}, key=_environment)
        cells = {(row["report"], row["environment"]): self._cell(row) for row in now}
        history = _rows(self._history, name)
        charts = []
        for number, report in enumerate(self.reports):
            own = [row for row in history if row["report"] == report]
            named = {each: [r for r in own if r["environment"] == each] for each in environments}
            charts.append(self._trend(number, f"{report}: score per environment", named))
            charts.append(self._findings(number, f"{report}: failing findings", own))
        accounts = self.stored.accounts.filter(pl.col("workload") == name)
        return {
            "workload": name,
            "environments": environments,
            "reports": self.reports,
            "grid": [
                {"report": report, "cells": [cells.get((report, each)) for each in environments]}
                for report in self.reports
            ],
            "charts": charts,
            "data": self.chart_data(charts),
            "changes": self._changes_of(name),
            "backlogs": [
                self._backlog(name, cell)
                for report in self.reports
                for each in environments
                if (cell := cells.get((report, each)))
            ],
            "failing": [self._failing(name, each) for each in environments],
            "exceptions": self._exceptions(name),
            "unscored": sorted({row["report"] for row in now if row["score"] is None}),
            "suppressed": sum(row["suppressed_findings"] or 0 for row in now),
            "accounts": accounts.unique("account_id", keep="first")
            .sort("environment", "account_id")
            .rows(named=True),
        }

    def _changes_of(self, name: str) -> list[Row]:
        rows, evidence = _rows(self._changes, name), _evidence(_rows(self._causes, name))
        days = sorted(self.stored.compared, reverse=True)
        told = [self._changed_on(day, rows, evidence) for day in days]
        return [each for each in told if each["scores"] or each["day"] == self.stored.day]

    def _changed_on(self, day: date, rows: Sequence[Row], evidence: Evidence) -> Row:
        """What changed on a day since the day it is compared with, a part for each score."""
        scores: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            if row["date"] == day:
                scores[row["report"], row["environment"] or ""].append(row)
        told = [
            self._changed_score(report, environment, own, evidence)
            for (report, environment), own in scores.items()
        ]
        told.sort(key=lambda each: (-abs(each["change"] or 0), each["report"], each["environment"]))
        return {"day": day, "before": self.stored.compared.get(day), "scores": told}

    def _changed_score(
        self, report: str, environment: str, rows: Sequence[Row], evidence: Evidence
    ) -> Row:
        before, after = rows[0]["score_before"], rows[0]["score_after"]
        change = None if before is None or after is None else after - before
        return {
            "report": report,
            "environment": environment,
            "before": "no score" if before is None else f"{before:.1f}",
            "after": "no score" if after is None else f"{after:.1f}",
            "band": self.band(after),
            "change": change,
            "moved": None if change is None else moved(change),
            "careful": rows[0]["comparable"],
            "controls": [self._changed_control(row, evidence) for row in rows[:CONTROLS_SHOWN]],
            "more": max(0, len(rows) - CONTROLS_SHOWN),
        }

    def _changed_control(self, row: Row, evidence: Evidence) -> Row:
        own = evidence.get(tuple(row[name] for name in _CHANGE), [])
        told = [what_happened(each, self.stored.names, row["date"]) for each in own]
        more = max(0, (own[0]["evidence"] if own else 0) - len(told))
        return {
            "control_id": row["control_id"],
            "title": self._title(row["report"], row["control_id"]),
            "severity": row["severity"],
            "part": row["part"],
            "before": row["status_before"] or "not there",
            "after": row["status_after"] or "not there",
            "cause": first_cause(row),
            "told": told,
            "more": more,
        }

    def _title(self, report: str, control: str) -> str | None:
        return self._titles.get((report, control), (None, None))[0]

    def _backlog(self, workload: str, cell: Row) -> Row:
        """The controls to fix first for the score of one report in one environment."""
        report, environment = cell["report"], cell["environment"]
        here = (pl.col("report") == report, pl.col("environment") == environment)
        controls = _part(self._controls, workload, self.stored.controls).filter(*here)
        resources = _part(self._resources, workload, self.stored.resources).filter(*here)
        counted = controls.filter(pl.col("status") != "NO_DATA")
        # A score that is withheld promises no points, whatever its controls say.
        wanted = counted if cell["score"] is not None else counted.clear()
        rows = backlog(wanted, resources.select(RESOURCES_SCHEMA.names()), self.thresholds.amber)
        links, words = (
            dict(resources.select("control_id", name).drop_nulls().sort("control_id", name).rows())
            for name in ("remediation_url", "title")
        )
        listed = []
        for row in rows.head(BACKLOG_SHOWN).iter_rows(named=True):
            title, url = self._titles.get((report, row["control_id"]), (None, None))
            listed.append(
                row
                | {
                    "title": _other(row["control_id"], title, words.get(row["control_id"])),
                    "url": safe_link(url or links.get(row["control_id"])),
                }
            )
        reaching = rows.filter("reaches_target").to_dicts()
        return cell | {
            "target": f"{self.thresholds.amber:g}",
            "said": _path(cell, reaching[0] if reaching else None, rows.height),
            "rows": listed,
            "more": max(0, rows.height - BACKLOG_SHOWN),
        }

    def _failing(self, workload: str, environment: str) -> Row:
        """The controls that do not pass in an environment, whatever report they count for."""
        own = pl.col("environment") == environment
        controls = _part(self._controls, workload, self.stored.controls).filter(
            own, pl.col("status").is_in(["FAILED", "UNKNOWN"])
        )
        found: dict[str, Row] = {}
        for row in controls.sort("status", "report").iter_rows(named=True):
            title, url = self._titles.get((row["report"], row["control_id"]), (None, None))
            control = found.setdefault(
                row["control_id"],
                {
                    "control_id": row["control_id"],
                    "severity": (row["severity"] or "").upper(),
                    "status": row["status"],
                    "title": title,
                    "url": safe_link(url),
                    "reports": [],
                    "resources": {},
                },
            )
            control["reports"].append(row["report"])
        for row in self._keeping(workload, environment):
            control = found.get(row["control_id"], {})
            if row["report"] in control.get("reports", ()):
                control["title"] = _other(row["control_id"], control["title"], row["title"])
                control["url"] = control["url"] or safe_link(row["remediation_url"])
                control["resources"].setdefault((row["account_id"], row["resource_id"]), row)
        groups = []
        for severity in (*SEVERITIES, ""):
            of_severity = [
                each
                for each in found.values()
                if (each["severity"] if each["severity"] in SEVERITIES else "") == severity
            ]
            if of_severity:
                listed = [_with_resources(each) for each in of_severity]
                listed.sort(key=lambda each: (-each["number"], each["control_id"]))
                groups.append({"severity": severity or "not rated", "controls": listed})
        unscored = [
            row["report"]
            for row in self._now[workload]
            if row["environment"] == environment and row["score"] is None
        ]
        return {
            "environment": environment,
            "groups": groups,
            "number": len(found),
            "unscored": sorted(unscored),
        }

    def _keeping(self, workload: str, environment: str) -> Iterable[Row]:
        """The resources that keep controls from passing, and the failures that are carried."""
        own = pl.col("environment") == environment
        order = ["control_id", "status", "account_id", "resource_id"]
        rows = _part(self._resources, workload, self.stored.resources).filter(own).sort(order)
        yield from rows.iter_rows(named=True)
        carried = _part(self._carried, workload, self.stored.carried).filter(own)
        for row in carried.iter_rows(named=True):
            since = row["carried_since"]
            yield {
                **row,
                "resource_type": None,
                "regions": row["region"],
                "status": f"carried forward since {since}" if since else "carried forward",
                "title": None,
                "remediation_url": None,
            }

    def _exceptions(self, workload: str) -> Row | None:
        """What is suppressed, the ones that end first on top; null: not known."""
        if self.stored.exceptions is None:
            return None
        rows = self.stored.exceptions.filter(
            pl.col("workload") == workload, "open", pl.col("report").is_in(self.reports)
        )
        found: dict[tuple[Any, ...], Row] = {}
        order = ["until", "control_id", "resource_id", "report"]
        for row in rows.sort(order, nulls_last=True).iter_rows(named=True):
            key = (row["account_id"], row["region"], row["control_id"], row["resource_id"])
            each = found.setdefault(
                key,
                row
                | {
                    "reports": [],
                    "worth": [],
                    "resource": short_resource(row["resource_id"] or "", row["account_id"]),
                    "account_name": self.stored.names.get(row["account_id"]),
                    "title": self._title(row["report"], row["control_id"]),
                    "ends": _ends(row["until"], self.stored.day),
                },
            )
            each["reports"].append(row["report"])
            if row["points"]:
                each["worth"].append(f"{row['points']:+.2f} {row['report']}")
        listed = list(found.values())
        return {
            "rows": listed[:EXCEPTIONS_SHOWN],
            "more": max(0, len(listed) - EXCEPTIONS_SHOWN),
            "number": len(listed),
            "ending": sum(each["ends"][0] != "later" for each in listed),
        }


def safe_link(url: str | None) -> str | None:
    """A link that a page may show: https, and nothing in it that no link has.

    >>> safe_link("https://docs.aws.amazon.com/console/securityhub/S3.1/remediation")
    'https://docs.aws.amazon.com/console/securityhub/S3.1/remediation'
    >>> safe_link("javascript:alert(1)") is None
    True
    """
    if url is None or not url.startswith("https://"):
        return None
    return url if url.isprintable() and not set(url) & set(" \"'<>\\`") else None


def _grouped(rows: pl.DataFrame, column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows.iter_rows(named=True):
        groups[row[column]].append(row)
    return groups


def _parts(rows: pl.DataFrame) -> Parts:
    return rows.partition_by("workload", as_dict=True, maintain_order=True)


def _part(parts: Parts, workload: str, whole: pl.DataFrame) -> pl.DataFrame:
    return parts.get((workload,), whole.clear())


def _rows(parts: Parts, workload: str | None) -> list[Row]:
    part = parts.get((workload,))
    return [] if part is None else part.rows(named=True)


def _environment(name: str) -> tuple[int, str]:
    known = name in ENVIRONMENTS
    return (ENVIRONMENTS.index(name) if known else len(ENVIRONMENTS), name)


def _told(causes: pl.DataFrame) -> pl.DataFrame:
    """The evidence that is told of each changed control: what decided it, if anything did."""
    decided = pl.col("decisive").fill_null(value=False)
    return (
        causes.with_columns(any_decisive=decided.any().over(_CHANGE))
        .filter(decided | ~pl.col("any_decisive"))
        .sort("account_id", "region", "resource_id", nulls_last=True)
        .with_columns(evidence=pl.len().over(_CHANGE))
        .filter(pl.int_range(pl.len()).over(_CHANGE) < EVIDENCE_SHOWN)
    )


def _evidence(rows: Iterable[Row]) -> Evidence:
    found: Evidence = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in _CHANGE)].append(row)
    return found


def _other(control: str, *titles: str | None) -> str | None:
    """The first title that says more than the control's own name."""
    return next((each for each in titles if each and control not in each), None)


def _path(cell: Row, reaching: Row | None, height: int) -> str:
    """How far green is."""
    if cell["score"] is None:
        return f"no score ({cell['reason']}), so there is no path to green"
    if reaching is not None:
        controls = count(reaching["position"], "control")
        fixed = reaching["fixed_so_far"]
        what = "" if fixed is None else f" ({count(fixed, 'resource')} to fix)"
        return f"green with {controls}{what}: {reaching['score_after']:.1f}"
    if height:
        cost = "costs" if height == 1 else "cost"
        return f"green already; {count(height, 'control')} still {cost} points"
    return "every counted control passes"


def _with_resources(control: Row) -> Row:
    rows = list(control["resources"].values())
    return control | {
        "number": len(rows),
        "accounts": len({row["account_id"] for row in rows}),
        "resources": [
            {
                "name": short_resource(row["resource_id"], row["account_id"])
                or "(the finding names no resource)",
                "account_id": row["account_id"],
                "account_name": row["account_name"],
                "regions": row["regions"],
                "status": None if row["status"] == "FAILED" else row["status"],
            }
            for row in rows[:RESOURCES_SHOWN]
        ],
    }


def _ends(until: date | None, day: date) -> tuple[str, str]:
    """Whether an exception is over, ends soon or later, and that in words."""
    if until is None:
        return "later", "no end agreed"
    left = (until - day).days
    if left < 0:
        return "over", f"over since {until.isoformat()}"
    if left <= ENDS_SOON_DAYS:
        when = "today" if left == 0 else f"in {count(left, 'day')}"
        return "soon", f"ends {when}, {until.isoformat()}"
    return "later", f"until {until.isoformat()}"


def _unlisted(accounts: pl.DataFrame) -> pl.DataFrame:
    """The scored accounts that Organizations does not list, where it lists any."""
    source = pl.col("account_source")
    return accounts.filter(
        source.is_in(["findings", "overrides"]), (source == "organizations").any()
    )
