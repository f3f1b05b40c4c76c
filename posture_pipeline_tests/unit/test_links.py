"""Where people are sent: links that open, and none that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from posture_pipeline.links import links_of
from posture_pipeline.settings import Aws, Dashboards, Settings, Simulation


def test_a_lake_in_a_folder_has_a_path_because_a_browser_opens_no_file_from_a_server(
    tmp_path: Path,
) -> None:
    links = links_of(Settings(lake=str(tmp_path)))
    assert links.report is None
    assert links.file == str(tmp_path.resolve() / "report/index.html")


def test_a_lake_on_s3_has_a_link_to_the_page_in_the_console() -> None:
    links = links_of(Settings(lake="s3://bucket/a/prefix/"))
    assert links.file is None
    assert links.report == (
        "https://eu-west-1.console.aws.amazon.com/s3/object/bucket?region=eu-west-1"
        "&prefix=a/prefix/report/index.html"
    )


def test_the_address_in_the_settings_comes_before_both() -> None:
    url = "https://posture.example.com/"
    assert links_of(Settings(dashboards=Dashboards(report_url=url))).report == url


@pytest.mark.parametrize(
    ("region", "console"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
        ("eusc-de-east-1", "eusc-de-east-1.console.amazonaws-eusc.eu"),
    ],
)
def test_the_dashboard_is_in_the_console_of_the_partition(region: str, console: str) -> None:
    settings = Settings(aws=Aws(region=region), dashboards=Dashboards(prefix="mine"))
    assert links_of(settings).dashboard == (
        f"https://{console}/cloudwatch/home?region={region}#dashboards/dashboard/mine-organization"
    )


@pytest.mark.parametrize(
    "settings",
    [
        Settings(simulation=Simulation()),
        Settings(aws=Aws(endpoint_url="http://127.0.0.1:4599")),
        Settings(dashboards=Dashboards(enabled=False)),
    ],
)
def test_there_is_no_link_to_a_dashboard_that_is_not_in_aws(settings: Settings) -> None:
    assert links_of(settings).dashboard is None
