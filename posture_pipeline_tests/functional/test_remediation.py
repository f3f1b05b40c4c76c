"""Episodes of failures over simulated days, held against what truly failed and was fixed."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from posture_pipeline.cli import main
from posture_pipeline.lake import remediation
from posture_pipeline.lake.catalog import publish
from posture_pipeline.model.causes import PROBLEM
from posture_pipeline.model.remediation import REMEDIED
from posture_pipeline.schemas import (
    CARRIED_FAILURES,
    CONTROL_STATUS,
    REMEDIATION,
    TIME_TO_FIX,
    WORKLOAD_SCORES,
)
from posture_pipeline.simulation import story
from posture_pipeline.simulation.checks import Observation
from posture_pipeline_tests.fortnight import DAYS, Fortnight

Problem = tuple[str, ...]
"""Account, region, control, resource: the same in every report."""


class Remedies(Fortnight):
    """What the fortnight tells of failures and their ends."""

    def open_on(self, day: date) -> pl.DataFrame:
        return self.read(REMEDIATION, day).filter(pl.col("closed_on").is_null())

    def closed_on(self, day: date) -> pl.DataFrame:
        return self.read(REMEDIATION, day).filter(pl.col("closed_on").is_not_null())

    def truth(self, day: date) -> dict[Problem, Observation]:
        """What the checks of the scored accounts find on a day, of controls that are reported."""
        controls = self.controls(day)
        return {
            (account.account_id, seen.region, seen.subject, seen.resource_id): seen
            for account in self.organization.accounts(day)
            if account.state == "ACTIVE"
            for seen in self.organization.observations(account, day)
            if seen.subject in controls
        }

    def controls(self, day: date) -> set[str]:
        return set(self.read(CONTROL_STATUS, day)["control_id"])

    def silent_on(self, day: date) -> set[str]:
        """The scored accounts that send nothing."""
        return {
            account.account_id
            for account in self.organization.accounts(day)
            if account.state == "ACTIVE" and not any(self.organization.observations(account, day))
        }


@pytest.fixture
def remedies(fortnight: Fortnight) -> Remedies:
    return Remedies(fortnight.run)


def problems_of(rows: pl.DataFrame) -> set[Problem]:
    return set(rows.select(PROBLEM[1:]).iter_rows())


def test_everything_that_truly_fails_has_exactly_one_open_episode(remedies: Remedies) -> None:
    for day in DAYS:
        is_open = remedies.open_on(day)
        truth = remedies.truth(day)
        failing = {each for each, seen in truth.items() if seen.effective == "FAILED"}
        assert failing
        assert failing <= problems_of(is_open), day
        assert not is_open.select(PROBLEM).is_duplicated().any()
        # Each report that has the control tells of it.
        reports = remedies.read(CONTROL_STATUS, day).select("report", "control_id").unique()
        expected = Counter(reports["control_id"])
        counts = Counter(problem for problem in is_open.select(PROBLEM[1:]).iter_rows())
        assert all(counts[each] == expected[each[2]] for each in failing), day


def test_what_is_open_without_failing_is_silent_unknown_or_carried(remedies: Remedies) -> None:
    seen = Counter[str]()
    for day in DAYS:
        truth, silent = remedies.truth(day), remedies.silent_on(day)
        carried = problems_of(remedies.read(CARRIED_FAILURES, day))
        for each in problems_of(remedies.open_on(day)):
            state = truth[each].effective if each in truth else "ABSENT"
            if state == "FAILED":
                continue
            why = "silent" if each[0] in silent else "carried" if each in carried else state
            assert why in {"silent", "carried", "WARNING", "NOT_AVAILABLE"}, (day, each)
            seen[why] += 1
    assert seen["silent"] > 0
    assert seen["carried"] > 0


def test_everything_truly_fixed_or_gone_is_closed_once_as_that(remedies: Remedies) -> None:
    seen = Counter[str]()
    for before, after in pairwise(DAYS):
        open_before = problems_of(remedies.open_on(before))
        closed = remedies.closed_on(after)
        assert not closed.select(PROBLEM).is_duplicated().any()
        told = {(*row[:-1], row[-1]) for row in closed.select(*PROBLEM[1:], "closed_by").rows()}
        for change in remedies.organization.changes_between(before, after):
            problem = (change.account_id, change.region, change.control_id, change.resource_id)
            if change.cause in REMEDIED and problem in open_before:
                assert (*problem, change.cause) in told, (after, problem, change)
                seen[change.cause] += 1
            elif change.cause in REMEDIED:
                assert change.before != "FAILED" or change.control_id not in (
                    remedies.controls(before)
                )
    assert set(seen) == set(REMEDIED) - {"not_applicable"}
    assert seen["fixed"] > 10


def test_nothing_is_told_to_be_remedied_that_is_not(remedies: Remedies) -> None:
    for day in DAYS:
        truth = remedies.truth(day)
        for row in remedies.closed_on(day).filter("remedied").iter_rows(named=True):
            problem = tuple(row[name] for name in PROBLEM[1:])
            if row["closed_by"] == "fixed":
                assert truth[problem].effective == "PASSED", (day, problem)
            else:
                assert problem not in truth, (day, problem)


def test_silence_closes_nothing(remedies: Remedies) -> None:
    silences = 0
    for before, after in pairwise(DAYS):
        silent = remedies.silent_on(after)
        was_open = {each for each in problems_of(remedies.open_on(before)) if each[0] in silent}
        silences += len(was_open)
        assert was_open <= problems_of(remedies.open_on(after))
        assert not {each for each in problems_of(remedies.closed_on(after)) if each[0] in silent}
    assert silences > 0


def test_suppressed_and_removed_ones_end_without_a_remedy(remedies: Remedies) -> None:
    closed = pl.concat(remedies.closed_on(day) for day in DAYS)
    ended = set(closed.filter(~pl.col("remedied"))["closed_by"])
    assert {"suppressed", "control_removed", "account_left"} <= ended
    assert "no_evidence" not in ended
    assert set(closed.filter("remedied")["closed_by"]) == set(REMEDIED) - {"not_applicable"}


def test_a_failure_is_open_since_the_day_on_which_it_truly_began(remedies: Remedies) -> None:
    """In particular those of AWS Config, whose findings keep their FirstObservedAt for life."""
    day = DAYS[-1]
    truth = remedies.truth(day)
    compared = Counter[str]()
    for row in remedies.open_on(day).iter_rows(named=True):
        seen = truth.get(tuple(row[name] for name in PROBLEM[1:]))
        if seen is not None and seen.effective == "FAILED" and row["openings"] == 1:
            # What is seen on a day was observed in the evening before.
            evening = story.date_of(max(seen.since, seen.created) - 1)
            assert row["opened_at"].date() == evening, row
            compared[row["product"]] += 1
    assert compared["aws/config"] > 5
    assert compared["aws/securityhub"] > 10


def test_a_day_made_again_is_the_same(remedies: Remedies) -> None:
    for day in (DAYS[0], DAYS[6], DAYS[-1]):
        again = remediation.episodes_of(remedies.lake, remedies.run.settings.reports, day)
        assert again.equals(remedies.read(REMEDIATION, day))


def test_days_that_are_missing_heal(remedies: Remedies, tmp_path: Path) -> None:
    """What is open does not depend on every day before having run."""
    lake = remedies.copied(tmp_path).lake
    for day in DAYS[5:-1]:
        lake.delete(f"{REMEDIATION.name}/date={day.isoformat()}")
    rows = remediation.episodes_of(lake, remedies.run.settings.reports, DAYS[-1])
    healed = rows.filter(pl.col("closed_on").is_null())
    assert healed.select(PROBLEM).rows() == remedies.open_on(DAYS[-1]).select(PROBLEM).rows()
    # What was open before, and closed on one of the missing days, is closed now, for that cause.
    before = problems_of(remedies.open_on(DAYS[4]))
    missed = pl.concat(remedies.closed_on(day) for day in DAYS[5:])
    causes = dict(zip(missed.select(PROBLEM).rows(), missed["closed_by"], strict=True))
    closed = rows.filter(pl.col("closed_on").is_not_null())
    assert problems_of(closed) == before - problems_of(healed)
    for row in closed.iter_rows(named=True):
        assert row["closed_by"] == causes[tuple(row[name] for name in PROBLEM)]


def test_the_time_to_fix_counts_every_episode_once(remedies: Remedies) -> None:
    day = DAYS[-1]
    rows = remedies.read(TIME_TO_FIX, day)
    assert not rows.select(TIME_TO_FIX.key).is_duplicated().any()
    totals = rows.filter(pl.col("severity").is_null(), pl.col("workload").is_null())
    assert set(totals["report"]) == {report.name for report in remedies.run.settings.reports}
    closed = pl.concat(remedies.closed_on(each) for each in DAYS)
    for row in totals.iter_rows(named=True):
        of_report = pl.col("report") == row["report"]
        is_open = remedies.open_on(day).filter(of_report)
        assert row["open_failures"] == is_open.height
        assert row["remedied_failures"] == closed.filter(of_report, "remedied").height
        episodes = pl.concat([closed, is_open]).filter(of_report)
        assert row["failures"] == episodes.select(*PROBLEM, "opened_at").n_unique()
        parts = rows.filter(
            of_report, pl.col("workload").is_not_null(), pl.col("severity").is_null()
        )
        assert parts["failures"].sum() == row["failures"]


def test_what_was_not_known_yet_does_not_count(remedies: Remedies) -> None:
    early = remedies.read(TIME_TO_FIX, DAYS[0])
    assert early["remedied_failures"].sum() == 0
    assert early["median_days"].null_count() == early.height
    known = remediation.known_episodes(remedies.lake, remedies.run.settings.reports, DAYS[3])
    assert known["date"].max() == DAYS[3]


def test_a_report_that_is_not_in_the_settings_any_more_is_not_told_of(
    remedies: Remedies,
) -> None:
    only = remedies.run.settings.reports[:1]
    known = remediation.known_episodes(remedies.lake, only, DAYS[-1])
    assert set(known["report"]) == {only[0].name}
    rows = remediation.episodes_of(remedies.lake, only, DAYS[-1])
    assert set(rows["report"]) == {only[0].name}


# --- what people ask --------------------------------------------------------------------------


def ask(remedies: Remedies, *arguments: str) -> int:
    lake = remedies.run.settings.lake
    return main(["remediation", "--lake", lake, "--report", "fsbp", *arguments])


def test_a_workload_is_told_its_times_and_its_oldest_failures(
    remedies: Remedies, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = remedies.read(WORKLOAD_SCORES, DAYS[-1]).filter(pl.col("report") == "fsbp")
    place = scores.sort("failed").row(-1, named=True)
    scope = ["--workload", place["workload"], "--environment", place["environment"]]
    assert ask(remedies, *scope, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    here = [pl.col(name) == place[name] for name in ("report", "workload", "environment")]
    is_open = remedies.open_on(DAYS[-1]).filter(*here)
    assert len(told["open"]) == is_open.height > 0
    opened = [row["opened_at"] for row in told["open"]]
    assert opened == sorted(opened)
    assert all(row["title"] and row["account_name"] for row in told["open"])
    *severities, every = told["time_to_fix"]
    assert every["severity"] is None
    assert every["open_failures"] == is_open.height
    assert sum(row["failures"] for row in severities) == every["failures"]
    assert ask(remedies, *scope) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(told["said"])
    assert told["open"][0]["resource_id"] in printed
    assert ask(remedies, *scope, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["resource_id"] for row in rows] == [row["resource_id"] for row in told["open"]]


def test_an_account_is_told_the_figures_of_its_own_failures(
    remedies: Remedies, capsys: pytest.CaptureFixture[str]
) -> None:
    of_report = pl.col("report") == "fsbp"
    account = remedies.open_on(DAYS[-1]).filter(of_report)["account_id"].mode().sort()[0]
    assert ask(remedies, "--account", account, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["account_id"] for row in told["open"]} == {account}
    assert told["time_to_fix"][-1]["open_failures"] == len(told["open"])


def test_the_whole_report_says_not_yet_half_where_it_is_so(
    remedies: Remedies, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(remedies, "--date", DAYS[0].isoformat()) == 0
    printed = capsys.readouterr().out
    assert "not yet half" in printed
    assert "Open longest (10 of " in printed


def test_what_keeps_coming_back_is_told_even_while_it_is_fixed(
    remedies: Remedies, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = remedies.copied(tmp_path).lake
    of_report = pl.col("report") == "fsbp"
    newest = remedies.open_on(DAYS[-1]).filter(of_report).sort("opened_at")
    keeps_on = {"openings": pl.lit(3), "flapping": pl.lit(value=True)}
    # Names are other people's: this one would turn the terminal red.
    steering = newest.tail(1).with_columns(**keeps_on, resource_id=pl.lit("\x1b[31mbucket"))
    fixed = pl.concat(remedies.closed_on(day) for day in DAYS[:-1]).filter(
        of_report, pl.col("closed_by") == "fixed"
    )
    earlier = fixed.tail(1).with_columns(**keeps_on | {"openings": pl.lit(5)})
    lake.replace(REMEDIATION, DAYS[-1], pl.concat([newest.head(3), REMEDIATION.read_as(steering)]))
    lake.replace(REMEDIATION, earlier["date"].item(), REMEDIATION.read_as(earlier))
    arguments = ["remediation", "--lake", lake.root, "--report", "fsbp"]
    assert main([*arguments, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["coming_back"]
    assert [(row["openings"], row["closed_by"]) for row in told] == [(5, "fixed"), (3, None)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    _, coming_back = printed.split("Keeps coming back")
    assert "5 times, closed on" in coming_back
    assert "?[31mbucket" in coming_back
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (["--workload", "payments"], "Name --account"),
        (["--account", "000000000000"], "there is no 'account 000000000000'"),
        (["--date", "2001-01-01"], "2001-01-01"),
    ],
)
def test_what_cannot_be_answered_is_said(
    remedies: Remedies, capsys: pytest.CaptureFixture[str], scope: list[str], said: str
) -> None:
    assert ask(remedies, *scope) == 1
    assert said in capsys.readouterr().err


def test_the_catalog_lists_the_slowest_fixes_first(remedies: Remedies) -> None:
    rows = publish.query(remedies.lake, "FROM slowest_fixes('fsbp')")
    is_open = remedies.open_on(DAYS[-1]).filter(pl.col("report") == "fsbp")
    assert rows.height == is_open.height
    assert rows["opened_at"].is_sorted()
    assert rows.select("title", "account_name").null_count().sum_horizontal().item() == 0
