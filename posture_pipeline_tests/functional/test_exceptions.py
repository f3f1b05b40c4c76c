"""The ledger of exceptions over simulated days, held against what truly was suppressed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.cli import main
from posture_pipeline.errors import LakeError, SettingsError
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.exceptions import ledger_of, scores_without_exceptions
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    EXCEPTIONS,
    EXPECTED_CONTROLS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.simulation import story
from posture_pipeline.simulation.organization import SimulatedOrganization
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SCORED, SimulatedDays, failures, simulated_days

SMALL = SimulationSettings(accounts=6, resources_per_account=6, rate_limit=None)
DAYS = [date(2026, 3, 10), date(2026, 3, 11), date(2026, 3, 13), date(2026, 3, 15)]
"""Before, twice within, and after the days on which the story suppresses; with gaps."""
BEGUN, WITHIN, AFTER = DAYS[1:]
CHECK = "exceptions_are_in_date"
Told = dict[str, Any]


@dataclass
class Story:
    """Days that ran well, the organization that lived them, and what the check said of each."""

    run: SimulatedDays
    entries: Path
    checks: dict[date, dg.AssetCheckEvaluation]

    @property
    def lake(self) -> Lake:
        return self.run.lake

    @property
    def organization(self) -> SimulatedOrganization:
        return self.run.server.organization

    def rows(self, day: date, **of: Any) -> pl.DataFrame:
        return self.lake.read(EXCEPTIONS, day).filter(
            *(pl.col(name) == value for name, value in of.items())
        )


def lines(*entries: str) -> str:
    return "\n".join(["control,account,until,owner,reason", *entries, ""])


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = (each for each in result.get_asset_check_evaluations() if each.check_name == CHECK)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The days of the story; on the last two one exception has ended, and one does soon."""
    folder = tmp_path_factory.mktemp("exceptions")
    entries = folder / "exceptions.csv"
    agreed = lines(
        f"{story.SUPPRESSED_CONTROL},,2026-03-12,team-one,until the new logs",
        "IAM.9,,2026-03-27,team-two,",
        "Lambda.1,,2026-03-01,nobody,it is suppressed nowhere",
    )
    entries.write_text(f"\ufeff{agreed}", encoding="utf-8")
    with simulated_days(folder, SMALL, exceptions=str(entries)) as days:
        checks = {}
        for day in DAYS:
            result = days.run(day, selection=[*SCORED, "exceptions"])
            assert result.success, failures(result)
            checks[day] = check_of(result)
        publish.rebuild(days.lake)
        yield Story(days, entries, checks)


PLACE = ["account_id", "region", "control_id", "resource_id"]
Place = tuple[str, str, str, str]


def truth(made: Story, day: date) -> dict[Place, date]:
    """What is suppressed on a day in accounts and controls that are scored, and since when.

    The notes are of the evening before the first snapshot that shows them.
    """
    scored = set(made.lake.read(EXPECTED_CONTROLS, day)["control_id"])
    return {
        (account.account_id, each.region, each.subject, each.resource_id): story.date_of(
            each.suppressed_since - 1
        )
        for account in made.organization.accounts(day)
        if account.state == "ACTIVE"
        for each in made.organization.observations(account, day)
        if each.suppressed_since is not None and each.subject in scored
    }


def places(rows: pl.DataFrame, value: str) -> dict[Place, Any]:
    """A value of each place; the same in every report."""
    told = rows.select(*PLACE, value).unique().rows()
    found = {
        (account, region, control, resource): v for account, region, control, resource, v in told
    }
    assert len(found) == len(told)
    return found


@pytest.mark.parametrize("day", DAYS)
def test_open_is_what_is_suppressed_on_the_day_since_the_day_on_which_it_was(
    made: Story, day: date
) -> None:
    rows = made.rows(day, open=True)
    assert places(rows, "since") == truth(made, day)
    assert set(rows["hides"]) == {"FAILED"}
    assert rows["note"].str.contains("^Accepted by the owner, ticket SEC-").all()
    assert rows["suppressed_by"].str.contains("assumed-role/security-review/").all()
    assert rows.select("severity", "finding_id").null_count().sum_horizontal().item() == 0


def test_the_story_begins_and_ends_an_exception() -> None:
    positions = [story.SUPPRESSED.position(story.day_number(day)) for day in DAYS]
    inside = [story.SUPPRESSED.holds(story.day_number(day)) for day in DAYS]
    assert inside == [False, True, True, False], positions


@pytest.mark.parametrize(("before", "day"), list(pairwise(DAYS)))
def test_what_ended_since_the_day_before_is_told_with_its_cause(
    made: Story, before: date, day: date
) -> None:
    causes = {
        (each.account_id, each.region, each.control_id, each.resource_id): each.cause
        for each in made.organization.changes_between(before, day)
    }
    ended = made.rows(day, open=False)
    gone = truth(made, before).keys() - truth(made, day).keys()
    assert places(ended, "ended_by") == {place: causes[place] for place in gone}
    assert ended.select("score", "score_without", "points").null_count().row(0) == (
        (ended.height,) * 3
    )


def test_the_exception_of_the_story_ends_because_it_is_unsuppressed(made: Story) -> None:
    ended = made.rows(AFTER, control_id=story.SUPPRESSED_CONTROL)
    since = BEGUN - timedelta(days=1)
    assert ended.select("open", "ended_by", "since").unique().rows() == [
        (False, "unsuppressed", since)
    ]


@pytest.mark.parametrize("day", DAYS)
def test_the_scores_are_the_stored_ones_and_the_catalog_says_the_same(
    made: Story, day: date
) -> None:
    without = scores_without_exceptions(made.lake, day, "workload")
    key = ["report", "workload", "environment"]
    stored = made.lake.read(WORKLOAD_SCORES, day)
    assert without.select(*key, "score").sort(key).equals(stored.select(*key, "score").sort(key))
    rows = made.rows(day, open=True).join(without, on=key, suffix="_of_all")
    assert rows.height == made.rows(day, open=True).height
    assert rows["score"].to_list() == rows["score_of_all"].to_list()
    assert (rows["points"].drop_nulls() >= 0).all()
    asked = publish.query(made.lake, f"FROM scores_without_exceptions('{day}')")
    whole = scores_without_exceptions(made.lake, day, "organization")
    assert whole["score"].to_list() == (
        made.lake.read(ORGANIZATION_SCORES, day).sort("report")["score"].to_list()
    )
    numbers = ["exceptions", "score", "score_without", "points"]
    for ours, theirs in (
        (without, asked.filter(pl.col("workload").is_not_null())),
        (whole, asked.filter(pl.col("workload").is_null())),
    ):
        order = [name for name in key if name in ours.columns]
        assert ours.sort(order).select(numbers).rows() == [
            pytest.approx(row) for row in theirs.sort(order).select(numbers).rows()
        ]


def test_the_story_s_exception_is_worth_the_points_that_its_end_costs(made: Story) -> None:
    """On the last day it counts again: its control passes without and fails with it."""
    worth = made.rows(WITHIN, control_id=story.SUPPRESSED_CONTROL, report="fsbp")
    assert worth.height == 1
    row = worth.row(0, named=True)
    assert row["points"] > 0
    assert row["score_without"] == pytest.approx(row["score"] - row["points"])


def test_the_macro_lists_what_is_open_worth_most_first(made: Story) -> None:
    rows = publish.query(made.lake, f"FROM exceptions_on('{WITHIN}')")
    stored = made.rows(WITHIN, open=True)
    assert set(rows.select("report", *PLACE).rows()) == set(stored.select("report", *PLACE).rows())
    assert rows.height == stored.height
    points = rows["points"].to_list()
    assert points == sorted(points, reverse=True)
    assert rows.select("title", "account_name").null_count().sum_horizontal().item() == 0
    assert rows.filter("expired")["control_id"].to_list() == [story.SUPPRESSED_CONTROL]


def test_the_check_warns_of_what_is_past_its_end_or_ends_soon(made: Story) -> None:
    on_time, late = made.checks[DAYS[0]], made.checks[WITHIN]
    assert on_time.passed
    assert {check.severity for check in made.checks.values()} == {dg.AssetCheckSeverity.WARN}
    assert not late.passed
    told = {name: value.value for name, value in late.metadata.items()}
    assert (told["wrong"], told["expired"]) == (2, 1)
    assert f"| 2026-03-12 | True | {story.SUPPRESSED_CONTROL} |" in str(told["rows"])
    assert "| 2026-03-27 | False | IAM.9 |" in str(told["rows"])
    assert told["lines_without_open_exception"] == 1
    assert told["first_of_these_lines"] == [4]


def test_what_has_ended_is_not_warned_of(made: Story) -> None:
    ended = made.rows(AFTER, open=False)
    assert (ended["until"] < date(2026, 3, 29)).all()
    told = {name: value.value for name, value in made.checks[AFTER].metadata.items()}
    assert (told["wrong"], told["lines_without_open_exception"]) == (0, 3)
    assert made.checks[AFTER].passed


@pytest.mark.parametrize(
    ("until", "days", "passed"), [(27, 14, False), (28, 14, True), (15, 1, True)]
)
def test_days_are_judged_from_the_day_of_the_snapshot(
    made: Story, tmp_path: Path, until: int, days: int, passed: bool
) -> None:
    """A ledger made again with other entries; the organization's clock is elsewhere."""
    made.run.server.set_clock(datetime(2026, 9, 1, tzinfo=UTC))
    entries = tmp_path / "other.csv"
    entries.write_text(lines(f"{story.SUPPRESSED_CONTROL},,2026-03-{until},,"))
    settings = made.run.settings.model_copy(
        update={
            "exceptions": str(entries),
            "checks": made.run.settings.checks.model_copy(update={"exception_days": days}),
        }
    )
    stored = made.rows(WITHIN)
    result = made.run.run_now(WITHIN, settings=settings, selection=[EXCEPTIONS.name])
    assert result.success, failures(result)
    assert check_of(result).passed is passed
    again = made.rows(WITHIN)
    agreed = ["until", "owner", "reason"]
    assert again.drop(agreed).equals(stored.drop(agreed))


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def posture(made: Story, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["exceptions", "--lake", made.lake.root, *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_command_shows_scores_with_and_without_exceptions(made: Story, posture: Any) -> None:
    code, out, _ = posture("--date", str(WITHIN), "--report", "fsbp")
    assert code == 0
    first = out.splitlines()[0]
    row = scores_without_exceptions(made.lake, WITHIN, "organization").row(
        by_predicate=pl.col("report") == "fsbp", named=True
    )
    assert row["exceptions"] == 1
    assert first == (
        f"fsbp, organization, {WITHIN}: {row['score']:.2f} of 100; "
        f"{row['score_without']:.2f} without its 1 exception."
    )
    for control in made.rows(WITHIN, open=True, report="fsbp")["control_id"]:
        assert control in out


def test_the_command_tells_a_program_everything_of_a_workload_or_account(
    made: Story, posture: Any
) -> None:
    row = made.rows(WITHIN, control_id=story.SUPPRESSED_CONTROL, report="fsbp").row(0, named=True)
    place = ["--workload", row["workload"], "--environment", row["environment"]]
    for scope in (place, ["--account", row["account_id"]]):
        code, out, _ = posture(
            "--date", str(WITHIN), "--report", "fsbp", *scope, "--format", "json"
        )
        assert code == 0
        told: Told = json.loads(out)
        (own,) = (
            each for each in told["exceptions"] if each["control_id"] == story.SUPPRESSED_CONTROL
        )
        assert {name: own[name] for name in PLACE} == {name: row[name] for name in PLACE}
        assert (own["since"], own["points"]) == (row["since"].isoformat(), row["points"])
        assert [each["report"] for each in told["scores"]] == ["fsbp"]
    (score,) = made.lake.read(ACCOUNT_SCORES, WITHIN).filter(
        report="fsbp", account_id=row["account_id"]
    )["score"]
    assert told["scores"][0]["score"] == score


def test_what_ended_is_shown_on_request(made: Story, posture: Any) -> None:
    asked = ("--date", str(AFTER), "--format", "csv")
    _, is_open, said = posture(*asked)
    _, every, _ = posture(*asked, "--all")
    numbers = [len(list(csv.DictReader(io.StringIO(text)))) for text in (is_open, every)]
    assert numbers == [made.rows(AFTER, open=True).height, made.rows(AFTER).height]
    assert f"organization, {AFTER}: " in said
    _, out, _ = posture("--date", str(AFTER), "--all")
    assert "unsuppressed" in out


def test_what_is_past_its_end_is_marked(made: Story, posture: Any, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for table in (ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES):
        lake.replace(table, WITHIN, made.lake.read(table, WITHIN))
    lake.replace(*status_of(made))
    rows = made.rows(WITHIN).with_columns(
        until=pl.lit(date(2026, 3, 12)), note=pl.lit("a\x1b[2Jb\n[red]c"), points=None
    )
    lake.replace(EXCEPTIONS, WITHIN, rows, {"unused_entries": []})
    _, out, _ = posture("--lake", lake.root)
    assert "exceptions are past the agreed end." in out
    assert "2026-03-12 expired" in out
    assert "a?[2Jb [red]c" in out
    assert "\x1b" not in out


def status_of(made: Story) -> tuple[Any, date, pl.DataFrame]:
    from posture_pipeline.schemas import CONTROL_STATUS

    return CONTROL_STATUS, WITHIN, made.lake.read(CONTROL_STATUS, WITHIN)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workload", "payments"], "Name --workload W and --environment E, or --account ID"),
        (["--workload", "x", "--environment", "y", "--account", "z"], "or none of them"),
        (
            ["--workload", "none", "--environment", "test"],
            "no workload and environment 'none test'",
        ),
        (["--account", "000000000000"], "no account '000000000000'; there are: "),
        (["--report", "nope"], "no report 'nope' in the settings"),
        (["--date", "2001-01-01"], "no exceptions for 2001-01-01"),
    ],
)
def test_what_cannot_be_answered_says_why(posture: Any, arguments: list[str], says: str) -> None:
    code, out, err = posture(*arguments)
    assert (code, out) == (1, "")
    assert says in err


# --- what is not there ------------------------------------------------------------------------


def test_a_lake_without_exceptions_says_what_to_run(tmp_path: Path, posture: Any) -> None:
    code, _, err = posture("--lake", str(tmp_path))
    assert code == 1
    assert "no exceptions yet. Run posture run" in err


def test_a_day_without_scores_or_a_file_that_is_not_there_is_named(
    made: Story, tmp_path: Path
) -> None:
    with pytest.raises(LakeError, match="2001-01-01"):
        ledger_of(made.lake, made.run.settings, date(2001, 1, 1))
    gone = made.run.settings.model_copy(update={"exceptions": str(tmp_path / "gone.csv")})
    with pytest.raises(SettingsError, match=r"exceptions: .*gone.csv cannot be read"):
        ledger_of(made.lake, gone, WITHIN)
