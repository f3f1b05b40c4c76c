"""The status of controls from the findings of a day in the lake."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from posture_pipeline.lake import control_notes, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.expected import Listing, Unlisted
from posture_pipeline.schemas import (
    CARRIED_FAILURES,
    CONTROL_STATUS,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
)
from posture_pipeline.settings import Report
from posture_pipeline_tests.fortnight import DAYS, Fortnight
from posture_pipeline_tests.rows import complete

pytestmark = pytest.mark.functional


@pytest.mark.parametrize("rows_in_memory", [1, 100, 1_000_000])
def test_how_many_accounts_are_scored_together_changes_nothing(
    fortnight: Fortnight, rows_in_memory: int
) -> None:
    day = DAYS[-1]
    assert fortnight.read(MERGED_FINDINGS, day).height > 2 * 100, "several groups of accounts"
    status = snapshot.control_status_of(
        fortnight.lake, fortnight.run.settings, day, rows_in_memory=rows_in_memory
    )
    assert_frame_equal(status, fortnight.read(CONTROL_STATUS, day))


def test_failures_that_are_carried_forward_count_whatever_the_groups_of_accounts(
    fortnight: Fortnight,
) -> None:
    carried = {day: fortnight.read(CARRIED_FAILURES, day) for day in DAYS}
    day = max(DAYS, key=lambda each: carried[each].height)
    assert carried[day].height, "a day on which some are"
    status = snapshot.control_status_of(
        fortnight.lake, fortnight.run.settings, day, rows_in_memory=1
    )
    assert_frame_equal(status, fortnight.read(CONTROL_STATUS, day))
    assert status["carried_findings"].sum() == carried[day].height


# --- expected controls ------------------------------------------------------------------------

DAY = date(2026, 11, 23)
FSBP = Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0")
CIS = Report(name="cis", standard="cis-aws-foundations-benchmark/v/3.0.0")
EVERY = Report(name="all", all_standards=True)
PACK = Report(name="pack", conformance_pack="lz-framework")
OFF = Unlisted("not_enabled", "It is off.")


def stored(
    lake: Lake, day: date, named: dict[str, Report] | None = None, listing: Listing | None = None
) -> None:
    """A day whose findings name controls, with what AWS listed; null: it was not asked."""
    rows = [
        {
            "date": day,
            "security_control_id": control,
            "standards": f"standards/{report.standard}",
            "record_state": "ACTIVE",
        }
        for control, report in (named or {}).items()
    ]
    frame = pl.DataFrame(rows) if rows else MERGED_FINDINGS.empty()
    lake.replace(MERGED_FINDINGS, day, complete(MERGED_FINDINGS, frame))
    if listing is not None:
        lake.replace(LISTED_CONTROLS, day, listing.controls, listing.details())


def listing(report: Report, *controls: str, **more: Any) -> Listing:
    rows = [
        {
            "date": DAY,
            "definition": report.definition,
            "report_kind": report.kind,
            "control_id": each,
            "enabled": True,
            "source": "security_hub" if report.is_of_standards else "config",
            **more,
        }
        for each in controls
    ]
    return Listing(complete(LISTED_CONTROLS, pl.DataFrame(rows)))


def expected(lake: Lake, report: Report, day: date) -> dict[str, date]:
    """The controls of a report with the day that each is from, as they are stored."""
    snapshot.store_expected(lake, [report], day)
    rows = snapshot.expected_of(lake, [report], day)
    return dict(rows.sort("control_id").select("control_id", "as_of").iter_rows())


def test_a_control_that_only_findings_named_stays_on_days_when_none_does(lake: Lake) -> None:
    days = [DAY + timedelta(days=number) for number in range(3)]
    off = Listing(unlisted={CIS.definition: OFF})
    for day, named in zip(days, (["IAM.1", "S3.1"], ["IAM.1"], ["IAM.1", "EC2.1"]), strict=True):
        stored(lake, day, dict.fromkeys(named, CIS), off)
        expected(lake, CIS, day)
    assert expected(lake, CIS, days[2]) == {"EC2.1": days[2], "IAM.1": days[2], "S3.1": days[0]}
    assert control_notes.notes_of(lake, days[2]) == {
        "cis": "It is off. Its score is over the controls that findings of other accounts name."
    }
    assert snapshot.withheld_of(lake, [CIS], days[2]) == {}


def test_what_aws_listed_on_the_day_is_all_that_is_expected(lake: Lake) -> None:
    stored(lake, DAY, {"S3.1": FSBP}, listing(FSBP, "S3.1", "S3.2"))
    later = DAY + timedelta(days=1)
    expected(lake, FSBP, DAY)
    stored(lake, later, {"S3.1": FSBP}, listing(FSBP, "S3.1"))
    assert set(expected(lake, FSBP, later)) == {"S3.1"}


def test_a_day_that_nobody_asked_for_takes_the_nearest_list(lake: Lake) -> None:
    stored(lake, DAY, {"S3.1": FSBP}, listing(FSBP, "S3.1", "S3.2"))
    later = DAY + timedelta(days=3)
    stored(lake, later, {"S3.1": FSBP, "S3.3": FSBP})
    assert expected(lake, FSBP, later) == {"S3.1": DAY, "S3.2": DAY}
    assert str(DAY) in control_notes.notes_of(lake, later)["fsbp"]
    changed = Report(name="fsbp", standard=CIS.standard)
    assert expected(lake, changed, later) == {}


def test_all_standards_has_the_listed_controls_and_those_of_standards_of_other_accounts(
    lake: Lake,
) -> None:
    listed = listing(EVERY, "S3.1", "IAM.1", standard_control_ids="")
    stored(lake, DAY, {"S3.1": FSBP, "EC2.1": CIS}, listed)
    assert set(expected(lake, EVERY, DAY)) == {"EC2.1", "IAM.1", "S3.1"}
    later = DAY + timedelta(days=1)
    stored(lake, later, {"S3.1": FSBP}, listed)
    assert expected(lake, EVERY, later)["EC2.1"] == DAY, "as for a standard that is off"


def test_a_report_that_cannot_be_listed_keeps_its_controls_and_has_no_score(lake: Lake) -> None:
    stored(lake, DAY, listing=listing(PACK, "lz-s3", "lz-vpc"))
    expected(lake, PACK, DAY)
    later = DAY + timedelta(days=1)
    failed = Listing(unlisted={PACK.definition: Unlisted("failed", "No permission.")})
    stored(lake, later, listing=failed)
    assert expected(lake, PACK, later) == {"lz-s3": DAY, "lz-vpc": DAY}
    renamed = Report(name="landing-zone", conformance_pack="lz-framework")
    assert snapshot.withheld_of(lake, [PACK, renamed, FSBP], later) == {
        "pack": "No permission.",
        "landing-zone": "No permission.",
    }


def test_rules_of_the_settings_are_never_what_an_earlier_day_had(lake: Lake) -> None:
    for number, rules in enumerate((("lz-a", "lz-b"), ("lz-b",))):
        day = DAY + timedelta(days=number)
        stored(lake, day)
        report = Report(name="pack", conformance_pack="lz-framework", rules=rules)
        assert expected(lake, report, day) == dict.fromkeys(rules, day)
