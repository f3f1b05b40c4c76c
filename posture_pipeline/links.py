"""Where people open what the pipeline publishes: the report page and the CloudWatch dashboard.

Only what the settings say is used: nothing is asked, and nothing says that it is there yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from posture_pipeline.aws.partitions import partition_of
from posture_pipeline.errors import SettingsError
from posture_pipeline.lake.layout import REPORT
from posture_pipeline.model.dashboards import owner_of
from posture_pipeline.settings import Settings

_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-eusc": "console.amazonaws-eusc.eu",
}
"""The consoles of the partitions (AWS: documentation of AWS China, of AWS GovCloud (US) and of the
AWS European Sovereign Cloud, "Signing in"). Those of the isolated ones are not public."""

_PAGE = f"{REPORT}/index.html"


@dataclass(frozen=True, slots=True)
class Links:
    """Where to look.

    Attributes:
        report: Link to the organization's report page; null: there is only a file.
        file: The file of that page; null: there is a link.
        dashboard: Link to the organization's dashboard; null: none is made in AWS.
    """

    report: str | None
    file: str | None
    dashboard: str | None


def links_of(settings: Settings) -> Links:
    """The links of a pipeline's settings."""
    report, file = settings.dashboards.report_url, None
    if report is None and settings.lake.startswith("s3://"):
        report = _object_in_console(settings)
    elif report is None:
        # A browser opens no file from a page of a server, so this is shown as a path.
        file = str(Path(settings.lake).expanduser().resolve() / _PAGE)
    return Links(report, file, _dashboard(settings))


def _object_in_console(settings: Settings) -> str | None:
    region = settings.s3.region or settings.aws.region
    bucket, _, prefix = settings.lake.removeprefix("s3://").partition("/")
    key = "/".join(part for part in (prefix.strip("/"), _PAGE) if part)
    return _in_console(region, f"s3/object/{bucket}?region={region}&prefix={quote(key)}")


def _dashboard(settings: Settings) -> str | None:
    in_aws = settings.simulation is None and settings.aws.endpoint_url is None
    if not in_aws or not settings.dashboards.enabled:
        return None
    region, name = settings.aws.region, owner_of(settings).organization
    return _in_console(region, f"cloudwatch/home?region={region}#dashboards/dashboard/{name}")


def _in_console(region: str, page: str) -> str | None:
    """A page of the console; null where it is not known."""
    try:
        host = _CONSOLES.get(partition_of(region).name)
    except SettingsError:
        return None
    return None if host is None else f"https://{region}.{host}/{page}"
