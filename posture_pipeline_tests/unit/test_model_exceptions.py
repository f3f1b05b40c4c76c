"""Exceptions: since when, how they end, what they are worth, and the file of agreed ends."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.errors import SettingsError
from posture_pipeline.model import causes, scoring
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.model.exceptions import (
    WORKLOAD,
    ScoredDay,
    exceptions,
    out_of_date,
    parse_entries,
    scores_without_exceptions,
    suppressed_problems,
    unused_entries,
)
from posture_pipeline.model.scoring import ScoreContext
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    EXCEPTIONS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
)
from posture_pipeline.settings import Report

DAY = date(2026, 11, 23)
BEFORE = DAY - timedelta(days=1)
STANDARD = Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0")
PACK = Report(name="pack", conformance_pack="lz-framework")
ONE, TWO, THREE = "111122223333", "444455556666", "777788889999"
PLACES = {ONE: ("shop", "production"), TWO: ("shop", "production"), THREE: ("pay", "test")}
NOTED_AT = datetime(2026, 10, 1, 12, tzinfo=UTC)

Finding = tuple[str, str]
"""Compliance status, and workflow status."""
Findings = dict[tuple[str, str, str], Finding]
"""By account, control and resource."""


def finding(
    report: Report, account: str, control: str, resource: str, status: str, workflow: str
) -> dict[str, Any]:
    """An active finding, as the report's kind of findings names its control."""
    standard = report.kind == "standard"
    return {
        "finding_id": f"{control}/{account}/{resource}",
        "account_id": account,
        "region": "eu-west-1",
        # A second finding of a resource is named after it: bucket#2.
        "resource_id": resource.partition("#")[0],
        "compliance_status": status,
        "workflow_status": workflow,
        "record_state": "ACTIVE",
        "consolidated": True if standard else None,
        "security_control_id": control if standard else None,
        "standards": f"standards/{report.standard}" if standard else None,
        "config_rule_name": None if standard else control,
        "rule_name": None if standard else control,
        "note_text": "accepted",
        "note_updated_by": "reviewer",
        "note_updated_at": NOTED_AT,
    }


def frame(findings: Findings, report: Report = STANDARD, **more: Any) -> pl.LazyFrame:
    rows = [finding(report, *key, *value) | more for key, value in findings.items()]
    columns = {
        name: pl.Series(name, [each.get(name) for each in rows], dtype=dtype)
        for name, dtype in ACCOUNT_FINDINGS.schema.items()
    }
    return pl.DataFrame(columns).lazy()


def expected(*controls: str, report: Report = STANDARD, enabled: bool = True) -> pl.DataFrame:
    rows = [
        {"report": report.name, "control_id": each, "severity": "HIGH", "enabled": enabled}
        for each in controls
    ]
    return EXPECTED_CONTROLS.read_as(pl.DataFrame(rows)) if rows else EXPECTED_CONTROLS.empty()


def accounts(*ids: str) -> pl.DataFrame:
    rows = [(each, None, *PLACES[each], None, "tags") for each in ids or PLACES]
    columns = ["account_id", "account_name", *WORKLOAD, "owner", "workload_source"]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def scored(
    findings: Findings,
    controls: pl.DataFrame,
    report: Report = STANDARD,
    known: pl.DataFrame | None = None,
) -> tuple[ScoredDay, pl.DataFrame]:
    """The day, scored by the scoring rules themselves, and the organization's scores."""
    known = accounts() if known is None else known
    context = ScoreContext(DAY, datetime(2026, 11, 23, 6, tzinfo=UTC), (report,))
    status = scoring.control_status(frame(findings, report), controls, report, known, day=DAY)
    day = ScoredDay(
        DAY,
        status,
        scoring.account_scores(status, controls, known, context),
        scoring.workload_scores(status, controls, known, context),
    )
    return day, scoring.organization_scores(status, controls, known, context)


def problems(
    findings: Findings, controls: pl.DataFrame, report: Report = STANDARD, **more: Any
) -> pl.DataFrame:
    rows = findings_of_report(frame(findings, report, **more), report, controls)
    return suppressed_problems(rows, report.name).collect()


def change(state_before: str, state_after: str, cause: str, **more: Any) -> pl.DataFrame:
    """The change of the problem of S3.9 on a bucket of the first account."""
    row = {
        "date": DAY,
        "compared_with": BEFORE,
        "report": "fsbp",
        "account_id": ONE,
        "region": "eu-west-1",
        "control_id": "S3.9",
        "resource_id": "bucket",
        "status_before": state_before,
        "status_after": state_after,
        "cause": cause,
    }
    return FINDING_CHANGES.read_as(pl.DataFrame([row | more]))


NO_CHANGES = FINDING_CHANGES.empty()
NOTHING_BEFORE = EXCEPTIONS.empty()
NO_ENTRIES = parse_entries("control,until\n", "none.csv")
BUCKET = (ONE, "S3.9", "bucket")
SUPPRESSED: Findings = {BUCKET: ("FAILED", "SUPPRESSED")}
S3 = expected("S3.9")


def ledger(
    findings: Findings,
    controls: pl.DataFrame = S3,
    *,
    changes: pl.DataFrame = NO_CHANGES,
    previous: pl.DataFrame = NOTHING_BEFORE,
    entries: pl.DataFrame = NO_ENTRIES,
    known: pl.DataFrame | None = None,
    **more: Any,
) -> pl.DataFrame:
    day, _ = scored(findings, controls, known=known)
    return exceptions(problems(findings, controls, **more), day, changes, previous, entries)


# --- what is in the ledger --------------------------------------------------------------------


def test_only_what_is_suppressed_in_accounts_that_are_scored_is_an_exception() -> None:
    findings: Findings = {
        BUCKET: ("FAILED", "SUPPRESSED"),
        (ONE, "S3.9", "other"): ("FAILED", "NEW"),
        (THREE, "S3.9", "bucket"): ("PASSED", "SUPPRESSED"),
        (TWO, "S3.9", "bucket"): ("FAILED", "SUPPRESSED"),
    }
    rows = ledger(findings, known=accounts(ONE, THREE))
    columns = ["account_id", "resource_id", "hides", "open", "severity", *WORKLOAD]
    assert rows.select(columns).rows() == [
        (ONE, "bucket", "FAILED", True, "HIGH", "shop", "production"),
        (THREE, "bucket", "PASSED", True, "HIGH", "pay", "test"),
    ]
    told = rows.select("date", "suppressed_by", "note", "finding_id", "ended_by").row(0)
    assert told == (DAY, "reviewer", "accepted", f"S3.9/{ONE}/bucket", None)


def test_the_ledger_of_nothing_is_empty() -> None:
    rows = ledger({})
    assert rows.schema == EXCEPTIONS.schema
    assert rows.is_empty()


SIBLING = (ONE, "S3.9", "bucket#2")
"""Another finding of the same bucket and control, as of a second rule of the same name."""


def test_a_suppressed_failure_beside_a_passing_finding_of_the_resource_is_an_exception() -> None:
    """The control passes only because of it."""
    rows = ledger(SUPPRESSED | {SIBLING: ("PASSED", "NEW")})
    columns = ["resource_id", "finding_id", "hides", "score", "score_without", "note"]
    assert rows.select(columns).rows() == [
        ("bucket", f"S3.9/{ONE}/bucket", "FAILED", 100, 0, "accepted")
    ]


def test_the_note_of_a_finding_that_counts_says_nothing_of_the_suppression() -> None:
    findings = pl.concat(
        [
            frame({SIBLING: ("PASSED", "NEW")}, note_text="looked at", note_updated_by="operator"),
            frame(SUPPRESSED),
        ]
    )
    of_report = findings_of_report(findings, STANDARD, S3)
    (found,) = causes.problems(of_report, "fsbp").collect().to_dicts()
    assert (found["state"], found["hides"], found["note_text"]) == ("PASSED", "FAILED", "accepted")
    alone = causes.problems(of_report.filter(workflow_status="NEW"), "fsbp").collect()
    assert alone.select("state", "hides", "note_text").rows() == [("PASSED", None, None)]


def test_an_exception_beside_a_finding_that_counts_begins_and_ends_by_its_changes() -> None:
    """A control on a resource goes from failing to passing because one finding was suppressed."""
    beside: Findings = SUPPRESSED | {SIBLING: ("PASSED", "NEW")}
    begun = ledger(beside, changes=change("FAILED", "PASSED", "suppressed"))
    assert begun["since"].to_list() == [DAY]
    ended = ledger(
        {BUCKET: ("FAILED", "NEW"), SIBLING: ("PASSED", "NEW")},
        previous=begun,
        changes=change("PASSED", "FAILED", "unsuppressed"),
    )
    assert ended.select("open", "ended_by").rows() == [(False, "unsuppressed")]


@pytest.mark.parametrize(
    ("statuses", "hides"),
    [
        (["PASSED"], "PASSED"),
        (["WARNING"], "UNKNOWN"),
        (["PASSED", "NOT_AVAILABLE"], "UNKNOWN"),
        (["PASSED", "WARNING", "FAILED"], "FAILED"),
    ],
)
def test_what_is_hidden_is_the_worst_of_the_suppressed_findings(
    statuses: list[str], hides: str
) -> None:
    findings = pl.concat([frame({BUCKET: (each, "SUPPRESSED")}) for each in statuses])
    found = causes.problems(findings_of_report(findings, STANDARD, S3), "fsbp").collect()
    assert found.select("state", "hides").rows() == [("SUPPRESSED", hides)]
    beside = pl.concat([findings, frame({SIBLING: ("FAILED", "NEW")})])
    found = causes.problems(findings_of_report(beside, STANDARD, S3), "fsbp").collect()
    assert found.select("state", "hides").rows() == [("FAILED", hides)]


# --- since when, and how it ends --------------------------------------------------------------


def test_it_is_open_since_the_day_that_the_ledger_before_says() -> None:
    first = ledger(SUPPRESSED).with_columns(since=pl.lit(date(2026, 11, 2)))
    assert ledger(SUPPRESSED, previous=first)["since"].to_list() == [date(2026, 11, 2)]


def test_without_a_ledger_before_the_note_tells_since_when() -> None:
    assert ledger(SUPPRESSED)["since"].to_list() == [NOTED_AT.date()]


@pytest.mark.parametrize("noted_at", [None, datetime(2026, 11, 24, 0, 0, 1, tzinfo=UTC)])
def test_without_a_note_of_the_past_it_is_open_since_the_day(noted_at: datetime | None) -> None:
    assert ledger(SUPPRESSED, note_updated_at=noted_at)["since"].to_list() == [DAY]


def test_a_note_from_before_a_day_on_which_it_still_counted_does_not_tell() -> None:
    rows = ledger(SUPPRESSED, changes=change("FAILED", "SUPPRESSED", "suppressed"))
    assert rows["since"].to_list() == [DAY]
    later = datetime(2026, 11, 22, 18, tzinfo=UTC)
    rows = ledger(
        SUPPRESSED,
        changes=change("FAILED", "SUPPRESSED", "suppressed"),
        note_updated_at=later,
    )
    assert rows["since"].to_list() == [BEFORE]
    back = ledger(SUPPRESSED, changes=change("ABSENT", "SUPPRESSED", "account_back"))
    assert back["since"].to_list() == [NOTED_AT.date()]


def test_it_ends_by_the_cause_of_the_change_and_is_told_of_once() -> None:
    first = ledger(SUPPRESSED)
    counts: Findings = {BUCKET: ("FAILED", "NEW")}
    ended = ledger(counts, previous=first, changes=change("SUPPRESSED", "FAILED", "unsuppressed"))
    columns = ["open", "ended_by", "since", "score", "score_without", "points"]
    assert ended.select(columns).rows() == [
        (False, "unsuppressed", NOTED_AT.date(), None, None, None)
    ]
    assert ledger(counts, previous=ended).is_empty()


def test_the_last_cause_since_the_ledger_before_counts() -> None:
    changes = pl.concat(
        [
            change("SUPPRESSED", "FAILED", "unsuppressed"),
            change("SUPPRESSED", "ABSENT", "account_silent", date=BEFORE),
        ]
    )
    ended = ledger({BUCKET: ("FAILED", "NEW")}, previous=ledger(SUPPRESSED), changes=changes)
    assert ended["ended_by"].to_list() == ["unsuppressed"]


def test_an_account_that_left_ends_its_exceptions_and_without_a_cause_there_is_no_evidence() -> (
    None
):
    first = ledger(SUPPRESSED)
    assert ledger({}, previous=first)["ended_by"].to_list() == ["no_evidence"]
    left = ledger({}, previous=first, known=accounts(TWO))
    assert left.select("ended_by", *WORKLOAD).rows() == [("account_left", "shop", "production")]


def test_nothing_is_told_of_a_report_that_is_not_scored_any_more() -> None:
    first = ledger(SUPPRESSED).with_columns(report=pl.lit("cis-v3"))
    assert ledger({}, previous=first).is_empty()


# --- what it is worth -------------------------------------------------------------------------

FOUR = expected("S3.1", "S3.2", "S3.3", "S3.9")
THREE_PASS: Findings = {(ONE, f"S3.{number}", "bucket"): ("PASSED", "NEW") for number in (1, 2, 3)}


@pytest.mark.parametrize(
    ("findings", "score", "without"),
    [
        # One failing resource is suppressed, the others pass: the control passes.
        ({(ONE, "S3.9", "other"): ("PASSED", "NEW"), **SUPPRESSED}, 100, 75),
        # Everything is suppressed: NO_DATA, out of the denominator, and in it again.
        (SUPPRESSED, 100, 75),
        ({BUCKET: ("WARNING", "SUPPRESSED")}, 100, 75),
        # What passes need not be suppressed; counting it again changes the denominator only.
        ({(ONE, "S3.1", "bucket"): ("FAILED", "NEW"), BUCKET: ("PASSED", "SUPPRESSED")},
         200 / 3, 75),
        # It fails anyway, in another account of the workload.
        ({(TWO, "S3.9", "bucket"): ("FAILED", "NEW"), **SUPPRESSED}, 75, 75),
        # A failure in another workload does not count here.
        ({(THREE, "S3.9", "bucket"): ("FAILED", "NEW"), **SUPPRESSED}, 100, 75),
    ],
)  # fmt: skip
def test_the_worth_of_an_exception(findings: Findings, score: float, without: float) -> None:
    rows = ledger(THREE_PASS | findings, FOUR)
    assert rows.select("score", "score_without", "points").row(0) == pytest.approx(
        (score, without, score - without)
    )


def test_a_score_that_is_withheld_gives_no_worth() -> None:
    day, _ = scored(SUPPRESSED, S3)
    assert day.workloads["score"].null_count() == day.workloads.height
    found = exceptions(problems(SUPPRESSED, S3), day, NO_CHANGES, NOTHING_BEFORE, NO_ENTRIES)
    assert found.select("score", "score_without", "points").rows() == [(None, None, None)]
    without = scores_without_exceptions(found, day, day.accounts, ["account_id"])
    assert without.filter(account_id=ONE).select(
        "exceptions", "score_without", "points"
    ).rows() == [(1, None, None)]


STATUS = st.sampled_from(["PASSED", "FAILED", "WARNING"])
WORKFLOW = st.sampled_from(["NEW", "SUPPRESSED", "SUPPRESSED"])
CONTROLS = ["S3.1", "S3.2", "S3.9"]
FINDINGS = st.dictionaries(
    st.tuples(
        st.sampled_from(list(PLACES)),
        st.sampled_from(CONTROLS),
        st.sampled_from(["a", "a#2", "a#3", "b"]),
    ),
    st.tuples(STATUS, WORKFLOW),
    min_size=1,
    max_size=10,
)


def counted_again(findings: Findings, *chosen: tuple[str, str]) -> Findings:
    """The findings with the suppressions of these accounts and controls ended."""
    return {
        key: (status, "NEW" if key[:2] in chosen else workflow)
        for key, (status, workflow) in findings.items()
    }


@settings(max_examples=25, deadline=None)
@given(FINDINGS, st.sampled_from([STANDARD, PACK]), st.booleans())
def test_the_score_without_is_the_one_that_scoring_gives_when_the_findings_count(
    findings: Findings, report: Report, enabled: bool
) -> None:
    """For the exceptions of each control in each workload, and for all of them in every scope."""
    controls = pl.concat(
        [
            expected(*CONTROLS[:2], report=report),
            expected(*CONTROLS[2:], report=report, enabled=enabled),
        ]
    )
    day, organization = scored(findings, controls, report)
    found = problems(findings, controls, report)
    rows = exceptions(found, day, NO_CHANGES, NOTHING_BEFORE, NO_ENTRIES)
    hidden = {(*key[:2], key[2][0]) for key, value in findings.items() if value[1] == "SUPPRESSED"}
    assert set(rows.select("account_id", "control_id", "resource_id").rows()) == hidden
    assert rows.height == len(hidden)
    for place in {(each["control_id"], *map(each.get, WORKLOAD)) for each in rows.to_dicts()}:
        control, workload, environment = place
        members = [each for each, where in PLACES.items() if where == (workload, environment)]
        ended = counted_again(findings, *((each, control) for each in members))
        again = scored(ended, controls, report)[0].workloads
        (score,) = again.filter(workload=workload, environment=environment)["score"]
        worth = rows.filter(control_id=control, workload=workload, environment=environment)
        for own, without, points in worth.select("score", "score_without", "points").rows():
            assert without == (None if own is None else pytest.approx(score))
            assert points == (None if own is None else pytest.approx(own - score))
    every = counted_again(findings, *((each, control) for each in PLACES for control in CONTROLS))
    after, after_organization = scored(every, controls, report)
    for scores, again, keys in (
        (day.accounts, after.accounts, ["account_id"]),
        (day.workloads, after.workloads, WORKLOAD),
        (organization, after_organization, []),
    ):
        without = scores_without_exceptions(rows, day, scores, keys)
        assert without["score"].to_list() == scores.sort([*keys, "report"])["score"].to_list()
        assert without["exceptions"].sum() == rows.height
        wanted = again.sort([*keys, "report"])["score"].to_list()
        got = without.select("score", "score_without", "points").rows()
        for score, (own, value, points) in zip(wanted, got, strict=True):
            assert value == (None if own is None else pytest.approx(score))
            assert points == (None if own is None else pytest.approx(own - score))


# --- agreed ends ------------------------------------------------------------------------------

ID = f"S3.9/{ONE}/bucket"


@pytest.mark.parametrize(
    ("lines", "until"),
    [
        (["S3.9,,,2026-12-01"], 1),
        (["S3.9,,,2026-12-01", f"S3.9,,{ONE},2026-12-02"], 2),
        ([f"S3.9,,{ONE},2026-12-02", f",{ID},,2026-12-03"], 3),
        ([f",{ID},{ONE},2026-12-04", f",{ID},,2026-12-03"], 4),
        ([f"S3.9,,{TWO},2026-12-05", f",{ID},{TWO},2026-12-06", "S3.8,,,2026-12-07"], None),
    ],
)
def test_the_entry_that_fits_best_holds(lines: list[str], until: int | None) -> None:
    text = "\n".join(["control,finding,account,until,owner,reason", *(f"{x},o,r" for x in lines)])
    entries = parse_entries(text, "a.csv")
    rows = ledger(SUPPRESSED, entries=entries)
    assert rows.height == 1
    wanted = (None,) * 3 if until is None else (date(2026, 12, until), "o", "r")
    assert rows.select("until", "owner", "reason").row(0) == wanted
    assert unused_entries(rows, entries).height == (len(lines) if until is None else 0)


def test_of_several_findings_of_one_problem_the_earliest_end_holds() -> None:
    twice = pl.concat([frame(SUPPRESSED), frame(SUPPRESSED, finding_id="second")])
    found = suppressed_problems(findings_of_report(twice, STANDARD, S3), "fsbp").collect()
    entries = parse_entries(f"finding,until\n{ID},2026-12-09\nsecond,2026-12-01\n", "a.csv")
    rows = exceptions(found, scored(SUPPRESSED, S3)[0], NO_CHANGES, NOTHING_BEFORE, entries)
    assert rows["until"].to_list() == [date(2026, 12, 1)]
    assert unused_entries(rows, entries).is_empty()


def test_an_entry_for_what_has_ended_is_unused() -> None:
    entries = parse_entries("control,until\nS3.9,2026-12-01\n", "a.csv")
    ended = ledger({BUCKET: ("FAILED", "NEW")}, previous=ledger(SUPPRESSED), entries=entries)
    assert ended.height == 1
    assert unused_entries(ended, entries)["line"].to_list() == [2]


@pytest.mark.parametrize(
    ("until", "days", "expired"),
    [
        ("2026-11-22", 0, True),
        ("2026-11-23", 0, False),
        ("2026-11-24", 0, None),
        ("2026-12-07", 14, False),
        ("2026-12-08", 14, None),
        ("", 14, None),
    ],
)
def test_the_last_day_of_an_exception_is_the_one_agreed(
    until: str, days: int, expired: bool | None
) -> None:
    rows = ledger(SUPPRESSED, entries=parse_entries(f"control,until\nS3.9,{until}\n", "a.csv"))
    assert rows.height == 1
    told = [] if expired is None else [expired]
    assert out_of_date(rows, DAY, days=days)["expired"].to_list() == told


def test_what_has_ended_cannot_be_out_of_date() -> None:
    entries = parse_entries("control,until\nS3.9,2026-11-01\n", "a.csv")
    ended = ledger({BUCKET: ("FAILED", "NEW")}, previous=ledger(SUPPRESSED), entries=entries)
    assert ended["until"].to_list() == [date(2026, 11, 1)]
    assert out_of_date(ended, DAY, days=14).is_empty()


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"control,finding,account,until,owner,reason\nS3.9,,{ONE},2026-12-01,team,why\n",
        f'\ufeffControl;Account;Until;Owner;Reason\r\n\r\n"S3.9"; \'{ONE};2026-12-01;team;why\r\n',
        f'reason,owner,until,account,control\nwhy,team,2026-12-01,"=""{ONE}""",S3.9\n,,,,\n',
    ],
)
def test_the_file_is_read_as_spreadsheets_write_it(text: str) -> None:
    rows = parse_entries(text, "a.csv").drop("line").rows()
    assert rows == [("S3.9", None, ONE, date(2026, 12, 1), "team", "why")]


def test_two_columns_are_enough_and_no_end_need_be_agreed() -> None:
    rows = parse_entries("finding,until\narn:one,\n", "a.csv").rows()
    assert rows == [(2, None, "arn:one", None, None, None, None)]


def test_the_same_control_may_stand_for_several_accounts() -> None:
    text = f"control,account,until\nS3.9,{ONE},\nS3.9,{TWO},\nS3.9,,\n"
    assert parse_entries(text, "a.csv")["account_id"].to_list() == [ONE, TWO, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: there is no header; start with control,finding,account,until"),
        ("control,until,team\n", "line 1: the column 'team' is unknown; use control, finding"),
        ("\ncontrol,control,until\n", "line 2: a column is there twice"),
        ("account,until\n", "the column 'control' or 'finding' is missing"),
        ("control,owner\n", "the column 'until' is missing"),
        ("control,until\nS3.9,2026-12-01,x\n", "line 2: there are 3 values for 2 columns"),
        ("control,until\nS3.9,31-12-2026\n", "line 2: until '31-12-2026' is no day; write it as"),
        ("control,until\nS3.9,20261231\n", "until '20261231' is no day"),
        ("control,until\nS3.9,2026-02-30\n", "until '2026-02-30' is no day"),
        ("control,account,until\nS3.9,123,\n", "line 2: the account id '123' has 3 digits"),
        ("control,finding,until\n,,2026-12-01\n", "line 2: it names no control and no finding"),
        ("control,finding,until\nS3.9,arn,\n", "names the control 'S3.9' and the finding 'arn'"),
        ("control,until\nS3.9,\n\nS3.9,\n", "line 4: S3.9 is on line 2 already"),
        (f"control,account,until\nS3.9,{ONE},\nS3.9,{ONE},\n", f"S3.9 in account {ONE} is on line"),
        ('control,until\n"S3.9,\n' + "x" * 140_000, "is no CSV"),
    ],
)
def test_a_file_that_cannot_be_used_names_the_line_and_the_fix(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=f"ends.csv cannot be used: .*{says}"):
        parse_entries(text, "ends.csv")
