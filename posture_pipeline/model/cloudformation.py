"""The dashboards and alarms as a CloudFormation template, for those who deploy that way.

What is in them stands in `model/dashboards.py`. Nothing is deployed here.

Sources: "AWS::CloudWatch::Dashboard" and "AWS::CloudWatch::Alarm" (CloudFormation template
reference); "CloudFormation quotas" (CloudFormation user guide).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError

if TYPE_CHECKING:
    from posture_pipeline.model.dashboards import Alarm, Dashboard, Wanted

MAX_RESOURCES = 500
"""Resources of one template (AWS: CloudFormation quotas)."""
MAX_BYTES = 1_000_000
"""Size of one template, a little under the 1 MB that AWS takes from a bucket (same)."""
VERSION = "2010-09-09"

_MAX_LOGICAL_ID = 255
_HASH_DIGITS = 10

Template = dict[str, Any]


def template(wanted: Wanted) -> Template:
    """The template of dashboards and alarms.

    A body is a string that CloudFormation takes as it is: it is in no Fn::Sub, so nothing in a
    name of a workload is ever filled in.

    Raises:
        InputError: It would have more resources, or be larger, than CloudFormation takes.
    """
    resources = {
        **{_logical_id("Dashboard", e.name): _dashboard(e) for e in wanted.dashboards or ()},
        **{_logical_id("Alarm", e.name): _alarm(e) for e in wanted.alarms or ()},
    }
    made = {
        "AWSTemplateFormatVersion": VERSION,
        "Description": "CloudWatch dashboards and alarms of security posture scores.",
        "Resources": resources,
    }
    _ensure_it_fits(made)
    return made


def template_text(made: Template) -> str:
    """The template as JSON, which CloudFormation reads as well as YAML; always the same text."""
    return json.dumps(made, indent=1)


def only_workloads(wanted: Wanted, workloads: Sequence[str], *, organization: bool) -> Wanted:
    """The part of the dashboards and alarms that one of several templates holds.

    Args:
        wanted: All of them.
        workloads: Whose to keep.
        organization: Whether to keep the organization's.

    Raises:
        InputError: A workload has no dashboard.
    """
    from posture_pipeline.model.dashboards import Wanted

    known = {each.workload for each in wanted.dashboards or () if each.workload is not None}
    missing = sorted(set(workloads) - known)
    if missing:
        names = ", ".join(repr(name) for name in missing)
        message = f"There is no workload {names} on this day; `posture scores` lists them."
        raise InputError(message)
    kept = set(workloads)

    def keep(each: Dashboard | Alarm) -> bool:
        return organization if each.workload is None else each.workload in kept

    return Wanted(
        wanted.owner,
        tuple(each for each in wanted.dashboards or () if keep(each)),
        tuple(each for each in wanted.alarms or () if keep(each)),
    )


def _ensure_it_fits(made: Template) -> None:
    number, size = len(made["Resources"]), len(template_text(made).encode())
    if number <= MAX_RESOURCES and size <= MAX_BYTES:
        return
    message = (
        f"One template would have {number:,} resources in {size:,} bytes; CloudFormation takes "
        f"{MAX_RESOURCES} in {MAX_BYTES:,}. Make several: one with --organization, and others with "
        "some of the workloads each (--workload W, which can be given more than once)."
    )
    raise InputError(message)


def _logical_id(kind: str, name: str) -> str:
    """Letters and digits only, as CloudFormation wants; the hash keeps two names apart."""
    words = "".join(word.capitalize() for word in re.findall(r"[A-Za-z0-9]+", name))
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{kind}{words}"[: _MAX_LOGICAL_ID - len(digest)] + digest


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    body = json.dumps(dashboard.body, sort_keys=True, separators=(",", ":"))
    return {
        "Type": "AWS::CloudWatch::Dashboard",
        "Properties": {"DashboardName": dashboard.name, "DashboardBody": body},
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    given = {key: value for key, value in alarm.properties.items() if value != []}
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": given}
