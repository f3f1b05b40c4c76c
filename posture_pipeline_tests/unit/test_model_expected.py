"""Expected controls where AWS cannot be asked: the settings, and the findings of the day."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model.expected import (
    Listing,
    Unlisted,
    as_expected,
    controls_of_findings,
    controls_of_settings,
    joined,
    kept,
)
from posture_pipeline.model.scoring import control_status_of_reports
from posture_pipeline.schemas import (
    EXPECTED_CONTROLS,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
)
from posture_pipeline.settings import Report

DAY = date(2026, 11, 23)
FSBP = "aws-foundational-security-best-practices/v/1.0.0"
CIS = "cis-aws-foundations-benchmark/v/1.2.0"
STANDARD = Report(name="fsbp", standard=FSBP)
PACK = Report(name="pack", conformance_pack="lz-framework")


def findings(*rows: dict[str, Any]) -> pl.LazyFrame:
    frame = pl.DataFrame(list(rows), infer_schema_length=None) if rows else pl.DataFrame()
    return MERGED_FINDINGS.read_as(frame).lazy()


def control(control_id: str, **more: Any) -> dict[str, Any]:
    return {
        "security_control_id": control_id,
        "standards": f"standards/{FSBP}",
        "title": f"Title of {control_id}",
        "severity_label": "HIGH",
    } | more


def rule(name: str, deployed: str | None = None) -> dict[str, Any]:
    deployed = deployed or f"{name}-conformance-pack-abc123def"
    return {"rule_name": name, "config_rule_name": deployed, "title": deployed}


def ids(rows: pl.DataFrame) -> list[str]:
    assert rows.schema == EXPECTED_CONTROLS.schema
    assert rows.select(EXPECTED_CONTROLS.key).is_unique().all()
    return rows["control_id"].to_list()


# --- from the settings ------------------------------------------------------------------------


def test_custom_rules_and_listed_pack_rules_are_expected_in_their_order() -> None:
    reports = [
        Report(name="own", custom_rules=("lz-b", "lz-a")),
        Report(name="pack", conformance_pack="lz", rules=("lz-c",)),
        PACK,
        STANDARD,
    ]
    rows = controls_of_settings(reports, DAY)
    assert ids(rows) == ["lz-b", "lz-a", "lz-c"]
    assert rows["report"].to_list() == ["own", "own", "pack"]
    assert rows["report_kind"].to_list() == ["custom_rules", "custom_rules", "conformance_pack"]
    assert set(rows["source"]) == {"settings"}
    assert set(rows["date"]) == set(rows["as_of"]) == {DAY}
    assert rows["enabled"].all()


def test_a_rule_may_be_written_as_it_is_deployed() -> None:
    rows = controls_of_settings(
        [Report(name="own", custom_rules=("OrgConfigRule-a-b-1a2b3c4d",))], DAY
    )
    assert ids(rows) == ["a-b"]
    assert rows["title"].to_list() == ["OrgConfigRule-a-b-1a2b3c4d"]


def test_two_spellings_of_one_rule_are_one_control() -> None:
    """Twice in the list, it would count twice in the score."""
    spellings = (
        "lz-s3",
        "OrgConfigRule-lz-s3-1a2b3c4d",
        "lz-s3-conformance-pack-abc123def",
        "lz-s3",
    )
    assert ids(controls_of_settings([Report(name="own", custom_rules=spellings)], DAY)) == ["lz-s3"]


def test_the_same_rule_in_two_reports_is_expected_in_both() -> None:
    reports = [Report(name=name, custom_rules=("lz-s3",)) for name in ("a", "b")]
    assert ids(controls_of_settings(reports, DAY)) == ["lz-s3", "lz-s3"]


def test_settings_that_list_no_rules_give_no_rows() -> None:
    assert controls_of_settings([STANDARD, PACK], DAY).equals(EXPECTED_CONTROLS.empty())


@given(st.lists(st.text("abc-", min_size=1, max_size=8), min_size=1, max_size=8))
def test_every_rule_is_expected_exactly_once(rules: list[str]) -> None:
    rows = controls_of_settings([Report(name="own", custom_rules=tuple(rules))], DAY)
    assert ids(rows) == list(dict.fromkeys(rules))


# --- from the findings ------------------------------------------------------------------------


def test_a_standard_has_the_controls_whose_findings_name_it() -> None:
    rows = controls_of_findings(
        findings(
            control("S3.1"),
            control("S3.1", title="A title before"),
            control("EC2.1", standards=f"standards/{CIS} standards/{FSBP}"),
            control(
                "IAM.1", standards="standards/aws-foundational-security-best-practices/v/1.0.01"
            ),
            control("KMS.1", standards=None),
            {"title": "GuardDuty", "standards": f"standards/{FSBP}"},
        ),
        STANDARD,
        DAY,
    )
    assert ids(rows) == ["EC2.1", "S3.1"]
    assert rows["title"].to_list() == ["Title of EC2.1", "A title before"]
    assert set(rows["source"]) == {"findings"}
    assert set(rows["as_of"]) == {DAY}


def test_a_per_standard_finding_gives_the_standards_own_id() -> None:
    row = control(
        "x", security_control_id=None, standard_control_id="2.5", standards=f"ruleset/{CIS}"
    )
    assert ids(controls_of_findings(findings(row), Report(name="cis", standard=CIS), DAY)) == [
        "2.5"
    ]


def test_the_severity_is_the_highest_label_of_the_control() -> None:
    """Findings that passed are INFORMATIONAL, which is no rating of a control."""
    rows = controls_of_findings(
        findings(
            control("S3.1", severity_label="INFORMATIONAL"),
            control("S3.1", severity_label="LOW"),
            control("S3.1", severity_label="HIGH"),
            control("S3.2", severity_label="INFORMATIONAL"),
            control("S3.3", severity_label=None),
            control("S3.4", severity_label="NEW WORD"),
        ),
        STANDARD,
        DAY,
    )
    assert dict(rows.select("control_id", "severity").iter_rows()) == {
        "S3.1": "HIGH",
        "S3.2": None,
        "S3.3": None,
        "S3.4": None,
    }


def test_a_pack_has_the_rules_that_are_deployed_by_a_pack() -> None:
    rows = controls_of_findings(
        findings(rule("lz-s3"), rule("lz-s3"), rule("lz-sqs"), rule("own", "own"), control("S3.1")),
        PACK,
        DAY,
    )
    assert ids(rows) == ["lz-s3", "lz-sqs"]
    assert set(rows["report_kind"]) == {"conformance_pack"}


def test_findings_that_tell_nothing_give_no_rows() -> None:
    for report in (STANDARD, PACK):
        rows = controls_of_findings(findings(), report, DAY)
        assert rows.equals(EXPECTED_CONTROLS.empty())


@given(
    st.permutations([control("S3.1"), control("S3.1", title="B"), control("EC2.1"), control("A.1")])
)
def test_the_order_of_the_findings_does_not_matter(rows: list[dict[str, Any]]) -> None:
    found = controls_of_findings(findings(*rows), STANDARD, DAY)
    assert found.equals(controls_of_findings(findings(*reversed(rows)), STANDARD, DAY))


# --- what AWS listed --------------------------------------------------------------------------


def listed(*ids: str, report: Report = STANDARD) -> pl.DataFrame:
    rows = [
        {"date": DAY, "definition": report.definition, "control_id": each, "enabled": True}
        for each in ids
    ]
    return LISTED_CONTROLS.read_as(pl.DataFrame(rows))


def test_listed_controls_belong_to_what_is_scored_whatever_the_reports_name() -> None:
    renamed = Report(name="best-practices", standard=FSBP)
    assert ids(as_expected(listed("S3.1", "EC2.1"), renamed, DAY)) == ["S3.1", "EC2.1"]
    assert as_expected(listed("S3.1"), Report(name="fsbp", standard=CIS), DAY).is_empty()


def test_kept_controls_say_of_which_day_they_are_and_why() -> None:
    later = DAY + timedelta(days=2)
    rows = kept(as_expected(listed("S3.1"), STANDARD, DAY), STANDARD, later, "because")
    assert rows.select("date", "as_of", "note").rows() == [(later, DAY, "because")]
    assert kept(rows, PACK, later, None).is_empty()


def test_controls_are_joined_each_once_and_the_first_list_decides() -> None:
    first = as_expected(listed("S3.1"), STANDARD, DAY, "first")
    both = joined(first, as_expected(listed("S3.1", "EC2.1"), STANDARD, DAY, "second"))
    assert dict(both.select("control_id", "note").iter_rows()) == {
        "S3.1": "first",
        "EC2.1": "second",
    }


def test_a_listing_is_the_same_after_it_was_stored() -> None:
    listing = Listing(listed("S3.1"), {PACK.definition: Unlisted("failed", "No permission.")})
    stored = Listing.stored(listing.controls, listing.details())
    assert stored.unlisted == listing.unlisted
    assert Listing.stored(LISTED_CONTROLS.empty(), {}).unlisted == {}


def test_a_later_run_of_the_day_loses_nothing_but_what_was_switched_off() -> None:
    earlier = Listing(pl.concat([listed("S3.1"), listed("lz-s3", report=PACK)]))
    again = Listing(
        unlisted={
            STANDARD.definition: Unlisted("not_enabled", "It is off."),
            PACK.definition: Unlisted("not_ready", "It is being deployed."),
        }
    ).completed(earlier)
    assert again.controls["control_id"].to_list() == ["lz-s3"]
    assert set(again.unlisted) == {STANDARD.definition}


# --- all standards ----------------------------------------------------------------------------

STANDARDS = (FSBP, "cis-aws-foundations-benchmark/v/1.4.0", "pci-dss/v/3.2.1")
OWN_IDS = {"S3.1": ("S3.1", "1.1", "PCI.S3.1"), "IAM.1": ("IAM.1", "1.2", "PCI.IAM.1")}
EVERY = Report(name="all", all_standards=True)
RANK = {"FAILED": 3, "UNKNOWN": 2, "PASSED": 1, "NO_DATA": 0}


def own_ids(control_id: str, *, qualified: bool) -> str:
    pairs = zip(STANDARDS, OWN_IDS[control_id], strict=True)
    return " ".join(
        own if not qualified or own == control_id else f"{standard}/{own}"
        for standard, own in pairs
    )


@given(
    per_standard=st.booleans(),
    rows=st.lists(
        st.tuples(
            st.sampled_from(["111122223333", "444455556666"]),
            st.sampled_from(sorted(OWN_IDS)),
            st.sampled_from(["bucket-1", "bucket-2"]),
            st.sampled_from(["PASSED", "FAILED", "WARNING"]),
            st.sets(st.sampled_from(range(3)), min_size=1),
        ),
        max_size=12,
    ),
)
def test_the_status_in_all_standards_is_the_worst_of_the_single_standards(
    *, per_standard: bool, rows: list[tuple[str, str, str, str, set[int]]]
) -> None:
    """The union of the standards: each control once, by its security control id."""
    records = []
    for account, control_id, resource, status, numbers in rows:
        record = {
            "account_id": account,
            "region": "eu-west-1",
            "record_state": "ACTIVE",
            "compliance_status": status,
            "resource_id": resource,
        }
        if per_standard:
            records += [
                record
                | {
                    "consolidated": False,
                    "standard_control_id": OWN_IDS[control_id][number],
                    "standards": f"standards/{STANDARDS[number]}",
                }
                for number in numbers
            ]
        else:
            names = " ".join(f"standards/{STANDARDS[number]}" for number in sorted(numbers))
            records.append(
                record
                | {"consolidated": True, "security_control_id": control_id, "standards": names}
            )
    reports = [Report(name=f"s{n}", standard=name) for n, name in enumerate(STANDARDS)]
    expected = EXPECTED_CONTROLS.read_as(
        pl.DataFrame(
            [
                {
                    "report": report.name,
                    "control_id": each,
                    "enabled": True,
                    "standard_control_ids": own_ids(each, qualified=report is EVERY)
                    if report is EVERY
                    else OWN_IDS[each][number],
                }
                for number, report in enumerate([*reports, EVERY])
                for each in OWN_IDS
            ]
        )
    )
    accounts = pl.DataFrame({"account_id": ["111122223333", "444455556666"]})
    status = control_status_of_reports(
        findings(*records), expected, [*reports, EVERY], accounts, day=DAY
    )
    worst: dict[tuple[str, str], str] = {}
    for report, *key, found in status.select("report", *PAIR, "status").iter_rows():
        if report != EVERY.name:
            pair = (key[0], key[1])
            worst[pair] = max(worst.get(pair, "NO_DATA"), found, key=lambda each: RANK[each])
    of_all = status.filter(pl.col("report") == EVERY.name)
    assert of_all.select(PAIR).is_unique().all()
    assert {(a, c): s for a, c, s in of_all.select(*PAIR, "status").iter_rows()} == worst


PAIR = ["account_id", "control_id"]


def test_numbers_of_different_standards_are_different_controls() -> None:
    """CIS 1.2 and 1.4 both have a 1.1; without AWS nothing says whether it is the same control."""
    rows = [
        control("x", security_control_id=None, standard_control_id="1.1", standards=standard)
        for standard in (f"ruleset/{CIS}", f"standards/{STANDARDS[1]}")
    ]
    own = control("x", security_control_id=None, standard_control_id="S3.1")
    assert ids(controls_of_findings(findings(*rows, own, control("S3.1")), EVERY, DAY)) == [
        "S3.1",
        f"{CIS}/1.1",
        f"{STANDARDS[1]}/1.1",
    ]


def test_findings_of_no_standard_are_of_no_control_of_all_standards() -> None:
    rows = [control("S3.1", standards=None), rule("lz-s3"), control("", standards="")]
    assert controls_of_findings(findings(*rows), EVERY, DAY).is_empty()
