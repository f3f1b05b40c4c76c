"""What the collector asks for: shards, filters, and on which day."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.aws.partitions import partition_of
from posture_pipeline.aws.security_hub import (
    FILTER_VALUES,
    GRACE,
    Shard,
    ensure_day_is_today,
    generator_prefixes,
    product_arns,
    shards,
    standard_arn,
)
from posture_pipeline.errors import DayIsOverError, SettingsError
from posture_pipeline.settings import Aws, Report, Settings

DAY = date(2026, 11, 23)
MIXED = Settings(
    reports=(
        Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0"),
        Report(name="cis-v3", standard="cis-aws-foundations-benchmark/v/3.0.0"),
        Report(name="lz-pack", conformance_pack="lz-framework"),
    )
)


def settings_with(**values: Any) -> Settings:
    return Settings(**values)


def account_prefix(shard: Shard) -> str:
    values = shard.filters.get("AwsAccountId", [{"Value": "", "Comparison": "PREFIX"}])
    assert [value["Comparison"] for value in values] == ["PREFIX"]
    return str(values[0]["Value"])


@given(account=st.text(string.digits, min_size=12, max_size=12))
def test_every_account_is_in_exactly_one_active_shard(account: str) -> None:
    active = [shard for shard in shards(Settings(), DAY) if not shard.archived]
    assert len(active) == 10
    assert sum(account.startswith(account_prefix(shard)) for shard in active) == 1


def test_other_products_are_asked_for_only_if_the_settings_name_them() -> None:
    assert not any("ProductArn" in shard.filters for shard in shards(Settings(), DAY))
    products = settings_with(products=("aws/guardduty", "111122223333/default"))
    added = [each for each in shards(products, DAY) if each not in shards(Settings(), DAY)]
    assert added
    asked: list[str] = []
    for shard in added:
        filters = dict(shard.filters)
        values = filters.pop("ProductArn")
        assert filters == {"RecordState": [{"Value": "ACTIVE", "Comparison": "EQUALS"}]}
        assert {each["Comparison"] for each in values} == {"EQUALS"}
        assert len(values) <= FILTER_VALUES
        asked += [each["Value"] for each in values]
    assert asked == product_arns(products, "eu-west-1")
    assert "arn:aws:securityhub:eu-west-1::product/aws/guardduty" in asked
    assert "arn:aws:securityhub:us-east-1::product/aws/guardduty" in asked, "a linked region"
    assert "arn:aws:securityhub:us-east-1:111122223333:product/111122223333/default" in asked, (
        "a product of one's own has its account in the ARN"
    )


def test_a_region_that_is_named_is_asked_for_its_own_products() -> None:
    named = settings_with(
        products=("aws/macie",), aws=Aws(region="cn-north-1", regions=("cn-north-1",))
    )
    assert product_arns(named, "cn-north-1") == [
        "arn:aws-cn:securityhub:cn-north-1::product/aws/macie"
    ]


def test_without_sharding_one_stream_covers_everything() -> None:
    found = shards(settings_with(shards=False), DAY)
    assert [shard.name for shard in found] == ["eu-west-1-active-all", "eu-west-1-archived"]
    assert "AwsAccountId" not in found[0].filters


def test_findings_archived_lately_are_one_shard_a_region_or_none() -> None:
    names = [shard.name for shard in shards(Settings(), DAY) if shard.archived]
    assert names == ["eu-west-1-archived"]
    assert not any(shard.archived for shard in shards(settings_with(archived_days=0), DAY))


def test_each_region_has_shards_of_its_own() -> None:
    aws = Aws(region="eu-west-1", regions=("eu-west-1", "us-east-1"))
    found = shards(settings_with(aws=aws), DAY)
    assert len(found) == 22
    assert len({shard.name for shard in found}) == 22
    assert {shard.region for shard in found} == {"eu-west-1", "us-east-1"}


def test_active_shards_ask_for_active_findings_and_archived_ones_for_archived() -> None:
    for shard in shards(Settings(), DAY):
        state = "ARCHIVED" if shard.archived else "ACTIVE"
        assert shard.filters["RecordState"] == [{"Value": state, "Comparison": "EQUALS"}]


def test_filters_are_the_same_bytes_in_every_run_of_the_day() -> None:
    """AWS refuses a token when the filters changed, so hash seeds must not order them."""
    program = (
        "from datetime import date\n"
        "from posture_pipeline.settings import Settings\n"
        "from posture_pipeline.aws.security_hub import shards\n"
        "for s in shards(Settings(), date(2026, 11, 23)): print(s.name, s.query(), s.filters_json)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_archived_query_has_fixed_bounds_counted_from_the_day() -> None:
    shard = shards(settings_with(archived_days=3), DAY)[-1]
    assert shard.filters["UpdatedAt"] == [
        {"Start": "2026-11-20T00:00:00.000Z", "End": "2026-11-24T00:00:00.000Z"}
    ]


def test_a_changed_filter_region_or_page_size_is_another_query() -> None:
    shard = shards(Settings(), DAY)[0]
    others = [
        shards(settings_with(collect="failing"), DAY)[0],
        shards(settings_with(aws=Aws(region="eu-west-3")), DAY)[0],
        shards(Settings(), DAY)[1],
    ]
    queries = {each.query() for each in others} | {shard.query(), shard.query(50)}
    assert len(queries) == 5


def test_active_filters_do_not_depend_on_the_day() -> None:
    later = shards(Settings(), DAY + timedelta(days=1))
    assert shards(Settings(), DAY)[:10] == later[:10]


def test_collecting_failures_leaves_passed_out() -> None:
    for shard in shards(settings_with(collect="failing"), DAY):
        values = [each["Value"] for each in shard.filters["ComplianceStatus"]]
        assert values == ["FAILED", "WARNING", "NOT_AVAILABLE"]


def wanted(generator_id: str, settings: Settings, region: str = "eu-west-1") -> bool:
    return any(generator_id.startswith(p) for p in generator_prefixes(settings, region))


@pytest.mark.parametrize(
    ("generator_id", "expected"),
    [
        ("security-control/S3.1", True),
        ("aws-foundational-security-best-practices/v/1.0.0/S3.1", True),
        ("cis-aws-foundations-benchmark/v/3.0.0/1.4", True),
        ("cis-aws-foundations-benchmark/v/3.0.00/1.4", False),
        ("pci-dss/v/3.2.1/PCI.S3.1", False),
        ("arn:aws:config:eu-west-1:111122223333:config-rule/config-rule-mburzq", True),
        ("arn:aws:guardduty:eu-west-1:111122223333:detector/1", False),
        ("arn:aws:inspector2:eu-west-1:1:finding", False),
    ],
)
def test_the_filter_takes_what_the_reports_need(generator_id: str, expected: bool) -> None:
    assert wanted(generator_id, MIXED) is expected


def test_cis_1_2_is_found_by_its_ruleset_arn() -> None:
    report = Report(name="cis", standard="ruleset/cis-aws-foundations-benchmark/v/1.2.0")
    settings = settings_with(reports=(report,))
    rule = "arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/1.1"
    assert wanted(rule, settings)
    assert not wanted("arn:aws:config:eu-west-1:1:config-rule/x", settings)


@pytest.mark.parametrize(
    ("generator_id", "expected"),
    [
        ("security-control/S3.1", True),
        ("aws-foundational-security-best-practices/v/1.0.0/S3.1", True),
        ("cis-aws-foundations-benchmark/v/5.0.0/1.4", True),
        ("pci-dss/v/3.2.1/PCI.S3.1", True),
        ("nist-800-53/v/5.0.0/S3.1", True),
        ("service-managed-aws-control-tower/v/1.0.0/CT.S3.1", True),
        ("arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/1.1", True),
        ("arn:aws:config:eu-west-1:111122223333:config-rule/config-rule-mburzq", False),
    ],
)
def test_all_standards_takes_the_findings_of_every_standard_and_no_others(
    generator_id: str, expected: bool
) -> None:
    settings = settings_with(reports=(Report(name="all", all_standards=True),))
    assert wanted(generator_id, settings) is expected


def test_config_findings_alone_when_no_report_is_a_standard() -> None:
    settings = settings_with(reports=(Report(name="rules", custom_rules=("lz-s3",)),))
    assert generator_prefixes(settings, "eu-west-1") == ["arn:aws:config:"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("us-gov-west-1", "aws-us-gov"),
        ("cn-north-1", "aws-cn"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eu-west-99", "aws"),
    ],
)
def test_arns_have_the_partition_of_the_region(region: str, partition: str) -> None:
    assert partition_of(region).name == partition
    assert f"arn:{partition}:config:" in generator_prefixes(MIXED, region)
    assert standard_arn("pci-dss/v/3.2.1", region).startswith(f"arn:{partition}:securityhub:")


def test_every_region_that_botocore_knows_is_in_the_partition_that_it_says() -> None:
    import botocore.session

    session = botocore.session.Session()
    names = session.get_available_partitions()
    found = {
        region: partition_of(region).name
        for name in names
        for region in session.get_available_regions("securityhub", name)
    }
    assert len(found) > 30
    assert found == {region: session.get_partition_for_region(region) for region in found}


def test_a_region_of_no_partition_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match="'mars-north-1' is no AWS region"):
        generator_prefixes(MIXED, "mars-north-1")


def test_filters_stay_within_the_limits_of_aws() -> None:
    reports = [
        Report(name=f"s{n}", standard=f"some-standard/v/{n}.0.0") for n in range(FILTER_VALUES - 2)
    ]
    reports.append(Report(name="rules", custom_rules=("a",)))
    for shard in shards(settings_with(reports=tuple(reports), collect="failing"), DAY):
        assert len(shard.filters) <= 10
        assert all(len(values) <= FILTER_VALUES for values in shard.filters.values())


def test_more_standards_than_a_filter_holds_are_refused_by_name() -> None:
    reports = tuple(Report(name=f"s{n}", standard=f"some-standard/v/{n}.0.0") for n in range(20))
    with pytest.raises(SettingsError, match=r"reports name .* at most"):
        shards(settings_with(reports=reports), DAY)


# -- The day ---------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("time", ["2026-11-23T00:00:00", "2026-11-23T23:59:59"])
def test_today_may_be_collected_at_any_time_of_the_day(time: str) -> None:
    ensure_day_is_today(at(time), DAY)


def test_a_day_that_is_over_is_refused_with_what_can_be_done_instead() -> None:
    with pytest.raises(DayIsOverError) as caught:
        ensure_day_is_today(at("2026-11-24T00:00:01"), DAY)
    for part in ("2026-11-23 is over", "2026-11-24", "downstream", "posture import"):
        assert part in str(caught.value)


def test_a_day_that_has_not_begun_is_refused() -> None:
    with pytest.raises(DayIsOverError, match=r"has not begun.*Collect 2026-11-22"):
        ensure_day_is_today(at("2026-11-22T23:59:59"), DAY, began=True)


def test_a_collection_that_began_before_midnight_goes_on_after_it() -> None:
    ensure_day_is_today(at("2026-11-24T03:00:00"), DAY, began=True)


def test_a_collection_that_began_is_not_taken_up_days_later() -> None:
    """What it would find then is another day's: half of each would be in one snapshot."""
    ends = at("2026-11-24T00:00:00")
    ensure_day_is_today(ends + GRACE - timedelta(seconds=1), DAY, began=True)
    with pytest.raises(DayIsOverError, match="more than 12 hours"):
        ensure_day_is_today(ends + GRACE, DAY, began=True)


def test_the_day_is_of_utc_whatever_the_clock_says_it_in() -> None:
    import datetime as dt

    new_york = dt.timezone(timedelta(hours=-5))
    ensure_day_is_today(datetime(2026, 11, 22, 20, 0, tzinfo=new_york), DAY)


def test_importing_the_folder_does_not_import_boto3() -> None:
    """Listing reports on the command line must not wait for an AWS SDK."""
    program = (
        "import sys\n"
        "import posture_pipeline.aws.clients, posture_pipeline.aws.rate\n"
        "import posture_pipeline.aws.security_hub, posture_pipeline.aws.controls\n"
        "import posture_pipeline.aws.organizations, posture_pipeline.aws.cloudwatch\n"
        "import posture_pipeline.aws.permissions\n"
        "print(sorted(m for m in sys.modules if re.match('boto|dagster', m)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import re\n{program}"], capture_output=True, check=True, text=True
    )
    assert re.fullmatch(r"\[\]\s*", done.stdout)
