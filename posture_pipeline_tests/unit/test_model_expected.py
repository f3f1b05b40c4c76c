"""Expected controls where AWS cannot be asked: the settings, and the findings of the day."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model.expected import controls_of_findings, controls_of_settings
from posture_pipeline.schemas import EXPECTED_CONTROLS, MERGED_FINDINGS
from posture_pipeline.settings import Report

DAY = date(2026, 11, 23)
FSBP = "aws-foundational-security-best-practices/v/1.0.0"
CIS = "cis-aws-foundations-benchmark/v/1.2.0"
STANDARD = Report(name="fsbp", standard=FSBP)
PACK = Report(name="pack", conformance_pack="lz-framework")


def findings(*rows: dict[str, Any]) -> pl.LazyFrame:
    frame = pl.DataFrame(list(rows), infer_schema_length=None) if rows else pl.DataFrame()
    return MERGED_FINDINGS.cast(frame).lazy()


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
