"""Explanations of whole simulated days, held against what truly happened on them."""

from __future__ import annotations

import json
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from posture_pipeline.cli import main
from posture_pipeline.errors import LakeError
from posture_pipeline.lake import explanation, layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.causes import CAUSES
from posture_pipeline.model.changes import SCOPES, judge
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
)
from posture_pipeline.simulation import story
from posture_pipeline.simulation.organization import STORY_CAUSES
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.fortnight import DAYS, FIRST, Fortnight
from posture_pipeline_tests.simulated_days import SCORED, failures, simulated_days

OF_ACCOUNT = {"account_joined", "account_left", "account_silent", "account_back"}
"""Causes that the explanation gives once a control, and the truth once a finding."""

OUR_NAMES = {"unknown": "could_not_be_evaluated", "known_again": "evaluated_again"}


def _place(row: dict[str, Any], cause: str) -> tuple[str, ...]:
    """What a change is about, as precisely as its cause says it."""
    if cause in OF_ACCOUNT:
        return (row["account_id"], row["control_id"])
    return (row["account_id"], row["region"], row["control_id"], row["resource_id"])


def _truth(fortnight: Fortnight, before: date, after: date) -> set[tuple[str, ...]]:
    """What truly happened, in the words of the explanation."""
    found = set()
    for change in fortnight.organization.changes_between(before, after):
        cause = OUR_NAMES.get(change.cause, change.cause)
        if cause != "account_moved":
            row = {name: getattr(change, name) for name in change.__dataclass_fields__}
            found.add((cause, *_place(row, cause)))
    return found


def _changed_controls(lake: Lake, before: date, after: date) -> set[tuple[str, str]]:
    """Account and control of every status that differs, in whichever report."""
    keys = ["report", "account_id", "control_id"]
    first, second = (
        lake.read(CONTROL_STATUS, day).select(*keys, "status") for day in (before, after)
    )
    both = first.join(second, on=keys, how="full", coalesce=True, suffix="_after")
    changed = both.filter(
        pl.col("status").fill_null("NO_DATA") != pl.col("status_after").fill_null("NO_DATA")
    )
    return set(changed.select("account_id", "control_id").iter_rows())


def _assert_true(
    fortnight: Fortnight, before: date, after: date, causes: pl.DataFrame, *, all_of_them: bool
) -> int:
    """Holds the causes of accounts against the truth, both ways; returns how many there are."""
    changed = _changed_controls(fortnight.lake, before, after)
    truth = {
        each
        for each in _truth(fortnight, before, after)
        if (each[1], each[2] if each[0] in OF_ACCOUNT else each[3]) in changed
    }
    rows = causes.filter(pl.col("scope") == "account").to_dicts()
    told = {(row["cause"], *_place(row, row["cause"])) for row in rows}
    if all_of_them:
        assert truth - told == set(), (before, after)
    # Rules that are assumed to pass come and go with an account too; the truth has findings only.
    accounts = {each[:2] for each in truth}
    invented = {
        each for each in told - truth if each[0] not in OF_ACCOUNT or each[:2] not in accounts
    }
    assert invented == set(), (before, after)
    return len(truth)


def test_every_cause_of_a_changed_control_is_the_true_one_and_none_is_missing(
    fortnight: Fortnight,
) -> None:
    compared = sum(
        _assert_true(
            fortnight, before, after, fortnight.read(SCORE_CHANGE_CAUSES, after), all_of_them=True
        )
        for before, after in pairwise(DAYS)
    )
    assert compared > 100


def test_the_causes_of_days_further_apart_are_the_true_ones_too(fortnight: Fortnight) -> None:
    reports = fortnight.run.settings.reports
    for before, after in ((DAYS[0], DAYS[6]), (DAYS[2], DAYS[9]), (DAYS[0], DAYS[-1])):
        found = explanation.explain(fortnight.lake, reports, before, after)
        assert _assert_true(fortnight, before, after, found.causes, all_of_them=True) > 10


def _history_truth(fortnight: Fortnight, before: date, after: date) -> set[tuple[str, ...]]:
    """What truly happened to problems of the reports, passing and absent ones aside."""
    names = set(fortnight.read(EXPECTED_CONTROLS, [before, after])["control_id"])
    fine = {"PASSED", "ABSENT"}
    return {
        (
            OUR_NAMES.get(change.cause, change.cause),
            change.account_id,
            change.region,
            change.control_id,
            change.resource_id,
        )
        for change in fortnight.organization.changes_between(before, after)
        if change.control_id in names and not {change.before, change.after} <= fine
    }


def test_the_history_of_findings_is_the_true_one(fortnight: Fortnight) -> None:
    compared = 0
    for before, after in pairwise(DAYS):
        rows = fortnight.read(FINDING_CHANGES, after)
        assert set(rows["compared_with"]) <= {before}
        told = set(
            rows.select("cause", "account_id", "region", "control_id", "resource_id").iter_rows()
        )
        truth = _history_truth(fortnight, before, after)
        assert told == truth, (before, after)
        compared += len(truth)
    assert compared > 100


def test_a_failure_that_ages_out_is_carried_and_no_score_rises_for_it(
    fortnight: Fortnight,
) -> None:
    aged = 0
    for before, after in pairwise(DAYS):
        for change in fortnight.organization.changes_between(before, after):
            if (change.cause, change.before) != ("aged_out", "FAILED"):
                continue
            aged += 1
            here = (
                pl.col("account_id") == change.account_id,
                pl.col("control_id") == change.control_id,
            )
            carried = fortnight.read(CARRIED_FAILURES, after).filter(*here)
            assert change.resource_id in carried["resource_id"].to_list()
            assert after in carried["carried_since"].to_list()
            status = fortnight.read(CONTROL_STATUS, after).filter(*here).to_dicts()
            assert [each["status"] for each in status] == ["FAILED"]
            assert status[0]["carried_findings"] >= 1
            assert fortnight.read(SCORE_CHANGES, after).filter(*here).is_empty()
    assert aged > 0


def test_the_score_of_a_silent_account_is_withheld_and_comes_back(fortnight: Fortnight) -> None:
    silent = {
        (change.account_id, after)
        for before, after in pairwise(DAYS)
        for change in fortnight.organization.changes_between(before, after)
        if change.cause == "account_silent"
    }
    ((account_id, since),) = silent
    before = since - timedelta(days=1)
    place = (
        fortnight.read(ACCOUNT_SCORES, before)
        .filter(pl.col("account_id") == account_id)
        .select("workload", "environment")
        .unique()
    )
    keys = ["workload", "environment"]
    scores = {day: fortnight.read(WORKLOAD_SCORES, day).join(place, on=keys) for day in DAYS}
    told = {row["report"]: row["score"] for row in scores[before].to_dicts()}
    for day in (since, since + timedelta(days=1)):
        for row in scores[day].to_dicts():
            assert row["score"] is None
            assert row["reason"].startswith(f"withheld: account {account_id}")
            assert row["last_score"] == told[row["report"]]
            assert row["last_score_date"] == before
        incomplete = fortnight.read(SOURCE_COMPLETENESS, day).filter(pl.col("reason").is_not_null())
        assert set(incomplete["account_id"]) == {account_id}
    back = scores[since + timedelta(days=2)]
    assert back["score"].null_count() == 0
    assert back["last_score"].null_count() == back.height


def test_the_organization_is_withheld_with_an_estimate_while_an_account_is_missing(
    fortnight: Fortnight,
) -> None:
    withheld = 0
    for day in DAYS:
        incomplete = fortnight.read(SOURCE_COMPLETENESS, day).filter(pl.col("reason").is_not_null())
        rows = fortnight.read(ORGANIZATION_SCORES, day).to_dicts()
        held = {row["report"]: row["reason"] for row in rows if row["score"] is None}
        assert set(held) == set(incomplete["report"])
        for reason in held.values():
            assert reason.startswith("withheld: the findings of 1 account are incomplete")
            assert "with the last complete ones it would be" in reason
        withheld += len(held)
    assert withheld > 0


@pytest.fixture
def copied(fortnight: Fortnight, tmp_path: Path) -> Fortnight:
    return fortnight.copied(tmp_path)


SCORING = [*SCORED[SCORED.index("finding_changes") :], "score_changes"]


def test_a_failure_is_carried_for_the_days_of_the_settings_only(copied: Fortnight) -> None:
    first = next(day for day in DAYS if not copied.read(CARRIED_FAILURES, day).is_empty())
    settings = copied.run.settings.model_copy(update={"carry_days": 1})
    for day in (first, first + timedelta(days=1)):
        result = copied.run.run_now(day, settings=settings, selection=SCORING)
        assert result.success, failures(result)
    carried = copied.read(CARRIED_FAILURES, first).select("control_id", "resource_id")
    assert carried.height > 0
    later = first + timedelta(days=1)
    over = copied.read(FINDING_CHANGES, later).filter(pl.col("cause") == "carried_too_long")
    assert over.select("control_id", "resource_id").equals(carried)
    assert copied.read(CARRIED_FAILURES, later).filter(pl.col("carried_since") <= first).is_empty()


def test_a_region_without_findings_withholds_the_scores_it_would_raise(copied: Fortnight) -> None:
    day = DAYS[2]
    sources = copied.read(ACCOUNT_FINDINGS, day).filter(
        pl.col("record_state") == "ACTIVE", pl.col("product") == "aws/securityhub"
    )
    account_id, region = (
        sources.filter(pl.col("region") != "eu-west-1")
        .group_by("account_id", "region")
        .len()
        .sort("len", "account_id")
        .select("account_id", "region")
        .row(-1)
    )
    gone = (pl.col("account_id") == account_id) & (pl.col("region") == region)
    for table in (MERGED_FINDINGS, ACCOUNT_FINDINGS):
        writer = copied.lake.write(table, day)
        for (account,), rows in copied.read(table, day).filter(~gone).group_by("account_id"):
            name = layout.account_part(str(account)) if table is ACCOUNT_FINDINGS else None
            writer.add(rows, name)
        writer.commit(copied.lake.require(table.name, day).details)
    result = copied.run.run_now(day, selection=SCORING)
    assert result.success, failures(result)
    rows = copied.read(ACCOUNT_SCORES, day).filter(pl.col("account_id") == account_id)
    by_report = {row["report"]: row for row in rows.to_dicts()}
    for name in ("fsbp", "cis-v3"):
        assert by_report[name]["score"] is None
        assert by_report[name]["reason"] == (
            f"withheld: no findings of aws/securityhub in {region} after {DAYS[1]}"
        )
        assert by_report[name]["last_score_date"] == DAYS[1]
    assert by_report["lz-pack"]["score"] is not None


def test_accounts_that_moved_are_named_in_both_workloads(fortnight: Fortnight) -> None:
    seen = 0
    for before, after in pairwise(DAYS):
        moved = {
            change.account_id
            for change in fortnight.organization.changes_between(before, after)
            if change.cause == "account_moved"
        }
        rows = fortnight.read(SCORE_CHANGE_CAUSES, after).filter(pl.col("cause") == "account_moved")
        assert set(rows["account_id"]) == moved
        if moved:
            seen += 1
            assert rows.select("workload", "environment").n_unique() == 2
    assert seen == 2


def test_every_cause_of_the_story_is_seen_in_the_window(fortnight: Fortnight) -> None:
    seen = {cause for day in DAYS for cause in fortnight.read(SCORE_CHANGE_CAUSES, day)["cause"]}
    seen |= {cause for day in DAYS for cause in fortnight.read(FINDING_CHANGES, day)["cause"]}
    assert {OUR_NAMES.get(cause, cause) for cause in STORY_CAUSES} <= seen
    assert seen <= set(CAUSES)
    assert "no_evidence" not in seen


def test_the_first_day_has_nothing_to_compare_with(fortnight: Fortnight) -> None:
    assert fortnight.read(SCORE_CHANGES, FIRST).is_empty()
    assert fortnight.read(SCORE_CHANGE_CAUSES, FIRST).is_empty()


def test_each_day_is_compared_with_the_day_before(fortnight: Fortnight) -> None:
    for before, after in pairwise(DAYS):
        assert set(fortnight.read(SCORE_CHANGES, after)["compared_with"]) == {before}


def test_the_parts_of_every_score_add_up_to_its_change(fortnight: Fortnight) -> None:
    tables = {
        "account": ACCOUNT_SCORES,
        "workload": WORKLOAD_SCORES,
        "organization": ORGANIZATION_SCORES,
    }
    compared = without = 0
    for before, after in pairwise(DAYS):
        changes = fortnight.read(SCORE_CHANGES, after)
        for scope, keys in SCOPES.items():
            on = [*keys, "report"]
            first, second = (
                {tuple(row[key] for key in on): row["score"] for row in rows.to_dicts()}
                for rows in (fortnight.read(tables[scope], day) for day in (before, after))
            )
            of_scope = changes.filter(pl.col("scope") == scope).to_dicts()
            for key in first.keys() | second.keys():
                parts = [row["part"] for row in of_scope if tuple(row[name] for name in on) == key]
                one, two = first.get(key), second.get(key)
                if one is None or two is None:
                    assert set(parts) <= {None}
                    without += bool(parts)
                else:
                    assert sum(parts) == pytest.approx(two - one, abs=1e-9)
                    compared += bool(parts)
    assert compared > 50
    assert without > 5


def _exact_parts(lake: Lake, report: str, accounts: list[str], before: date, after: date) -> Any:
    """The parts in fractions, from a plain loop over the statuses of the accounts."""
    worst = ["NO_DATA", "PASSED", "UNKNOWN", "FAILED"]
    status: list[dict[str, str]] = []
    for day in (before, after):
        of_day: dict[str, str] = {}
        rows = lake.read(CONTROL_STATUS, day).filter(pl.col("report") == report)
        for row in rows.filter(pl.col("account_id").is_in(accounts)).to_dicts():
            known = of_day.get(row["control_id"], "NO_DATA")
            of_day[row["control_id"]] = max(known, row["status"], key=worst.index)
        status.append(of_day)
    counted = [[s for s in each.values() if s != "NO_DATA"] for each in status]
    (n1, n2), (p1, p2) = map(len, counted), (each.count("PASSED") for each in counted)
    if not n1 or not n2:
        return {}
    parts = {}
    for control in status[0].keys() | status[1].keys():
        one, two = (each.get(control, "NO_DATA") for each in status)
        passed = (two == "PASSED") - (one == "PASSED")
        count = (two != "NO_DATA") - (one != "NO_DATA")
        part = passed * (Fraction(1, n1) + Fraction(1, n2)) / 2
        parts[control] = 100 * (part - count * Fraction(p1 + p2, 2 * n1 * n2))
    assert sum(parts.values()) == 100 * (Fraction(p2, n2) - Fraction(p1, n1))
    return parts


def test_claims_are_judged_as_exact_arithmetic_judges_them(fortnight: Fortnight) -> None:
    answers: dict[str, int] = {}
    for before, after in pairwise(DAYS):
        rows = fortnight.read(SCORE_CHANGES, after).filter(
            pl.col("scope") == "account", pl.col("part").is_not_null()
        )
        for (report, account), group in rows.group_by("report", "account_id"):
            parts = dict(group.select("control_id", "part").iter_rows())
            exact = _exact_parts(fortnight.lake, report, [account], before, after)
            for control, part in parts.items():
                assert part == pytest.approx(float(exact[control]), abs=1e-9)
                change = sum(exact.values())
                others = change - exact[control]
                if change >= 0 or exact[control] >= 0:
                    wanted = "false"
                else:
                    wanted = "true" if others >= 0 else "partly"
                verdict = judge([control], parts)
                assert verdict.answer == wanted
                answers[wanted] = answers.get(wanted, 0) + 1
    assert min(answers.get(each, 0) for each in ("true", "partly", "false")) > 3


def _burst_days() -> tuple[date, date]:
    for before, after in pairwise(DAYS):
        number = story.day_number(after)
        if story.BURST.holds(number) and not story.BURST.holds(story.day_number(before)):
            return before, after
    message = "no burst in the window"
    raise AssertionError(message)


def test_only_that_control_is_judged_partly_true_when_three_broke(
    fortnight: Fortnight, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = _burst_days()
    arguments = [
        "explain", "--lake", fortnight.run.settings.lake, "--report", "fsbp",
        "--workload", story.BURST_WORKLOAD, "--environment", "production",
        "--from", before.isoformat(), "--to", after.isoformat(), "--format", "json",
    ]  # fmt: skip
    assert main(arguments) == 0
    broke = [
        row["control_id"]
        for row in json.loads(capsys.readouterr().out)["controls"]
        if row["part"] < 0
    ]
    assert story.BURST_CONTROL in broke
    assert set(story.BURST_SIDE_CONTROLS) & set(broke)
    told = {}
    for claim in ([story.BURST_CONTROL], broke):
        assert main([*arguments, "--claim", *claim]) == 0
        told[len(claim)] = json.loads(capsys.readouterr().out)
    one, every = told[1], told[len(broke)]
    assert one["claim"]["answer"] == "partly"
    assert one["claim"]["share"] == pytest.approx(one["claim"]["claimed"] / one["change"])
    assert every["claim"]["answer"] == "true"
    assert sum(row["part"] for row in one["controls"]) == pytest.approx(one["change"], abs=1e-9)
    burst = next(row for row in one["controls"] if row["control_id"] == story.BURST_CONTROL)
    assert burst["causes"] == ["regression"]
    assert all(each["finding_id_before"] and each["finding_id_after"] for each in burst["evidence"])


def test_any_two_days_of_a_workload_are_explained_as_the_stored_table_says(
    fortnight: Fortnight,
) -> None:
    before, after = _burst_days()
    stored = fortnight.read(SCORE_CHANGES, after).filter(
        pl.col("workload") == story.BURST_WORKLOAD, pl.col("report") == "fsbp"
    )
    report = fortnight.run.settings.report("fsbp")
    members = (
        fortnight.read(ACCOUNT_SCORES, [before, after])
        .filter(pl.col("workload") == story.BURST_WORKLOAD)["account_id"]
        .unique()
        .to_list()
    )
    alone = explanation.explain(
        fortnight.lake, [report], before, after, accounts=members, scopes=["workload"]
    ).changes.filter(pl.col("workload") == story.BURST_WORKLOAD)
    order = ["environment", "control_id"]
    assert alone.sort(order).equals(stored.sort(order))


def test_the_switch_to_consolidated_findings_changes_no_score_and_fixes_nothing(
    tmp_path: Path,
) -> None:
    switch = FIRST + timedelta(days=1)
    simulation = SimulationSettings(
        accounts=6, resources_per_account=6, rate_limit=None, consolidated_from=switch
    )
    with simulated_days(tmp_path, simulation) as days:
        for number in range(3):
            result = days.run(FIRST + timedelta(days=number), selection=[*SCORED, "score_changes"])
            assert result.success, failures(result)
        lake = days.lake
        for before, after in ((FIRST, switch), (switch, switch + timedelta(days=1))):
            held = Fortnight(days)
            causes = lake.read(SCORE_CHANGE_CAUSES, after)
            # The truth names the problems; per-standard ones of the same are one to us.
            _assert_true(held, before, after, causes, all_of_them=True)


def test_the_catalog_explains_a_workload_on_a_day(fortnight: Fortnight) -> None:
    _, after = _burst_days()
    rows = publish.query(
        fortnight.lake,
        f"FROM explain('fsbp', '{story.BURST_WORKLOAD}', 'production', '{after}')",
    )
    stored = fortnight.read(SCORE_CHANGES, after).filter(
        pl.col("workload") == story.BURST_WORKLOAD,
        pl.col("environment") == "production",
        pl.col("report") == "fsbp",
    )
    assert set(rows["control_id"]) == set(stored["control_id"])
    by_control = dict(rows.select("control_id", "part").unique().iter_rows())
    change = rows["score_after"][0] - rows["score_before"][0]
    assert sum(by_control.values()) == pytest.approx(change, abs=1e-9)
    burst = rows.filter(pl.col("control_id") == story.BURST_CONTROL)
    assert set(burst["cause"]) == {"regression"}
    assert burst["resource_id"].null_count() == 0


def test_parts_that_do_not_add_up_stop_the_run(copied: Fortnight) -> None:
    """A score that was stored from other statuses must not get an explanation that looks right."""
    before, after = _burst_days()
    kept = copied.read(WORKLOAD_SCORES, before)
    details = copied.lake.require(WORKLOAD_SCORES.name, before).details
    moved = kept.with_columns(pl.col("score") - 0.5)
    copied.lake.replace(WORKLOAD_SCORES, before, moved, details)
    result = copied.run.run_now(after, selection=["score_changes"])
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not checks["parts_add_up_to_the_change"].passed
    assert not result.success
    copied.lake.replace(WORKLOAD_SCORES, before, kept, details)
    result = copied.run.run_now(after, selection=["score_changes"])
    assert result.success, failures(result)


def test_a_day_that_is_not_stored_cannot_be_explained(fortnight: Fortnight) -> None:
    with pytest.raises(LakeError, match="2025-01-01"):
        explanation.explain(
            fortnight.lake, fortnight.run.settings.reports, date(2025, 1, 1), DAYS[-1]
        )
    assert explanation.earlier_day(fortnight.lake, FIRST) is None
    assert explanation.earlier_day(fortnight.lake, DAYS[3]) == DAYS[2]
