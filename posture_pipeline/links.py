"""Where people open what the pipeline publishes: the report page and the CloudWatch dashboard.

Only what the settings say is used: nothing is asked, and nothing says that it is there yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from posture_pipeline.lake.layout import REPORT
from posture_pipeline.model.dashboards import owner_of
from posture_pipeline.settings import Settings

_CONSOLES = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
"""The consoles of the partitions whose regions have these prefixes; others: the commercial one.

AWS: documentation of AWS China and of AWS GovCloud (US), "Signing in".
"""

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


def _object_in_console(settings: Settings) -> str:
    region = settings.s3.region or settings.aws.region
    bucket, _, prefix = settings.lake.removeprefix("s3://").partition("/")
    key = "/".join(part for part in (prefix.strip("/"), _PAGE) if part)
    return f"https://{_console(region)}/s3/object/{bucket}?region={region}&prefix={quote(key)}"


def _dashboard(settings: Settings) -> str | None:
    in_aws = settings.simulation is None and settings.aws.endpoint_url is None
    if not in_aws or not settings.dashboards.enabled:
        return None
    region, name = settings.aws.region, owner_of(settings).organization
    return f"https://{_console(region)}/cloudwatch/home?region={region}#dashboards/dashboard/{name}"


def _console(region: str) -> str:
    of_partition = (host for prefix, host in _CONSOLES.items() if region.startswith(prefix))
    return f"{region}.{next(of_partition, 'console.aws.amazon.com')}"
