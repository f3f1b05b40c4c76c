"""CloudWatch dashboards and alarms brought to what is wanted: put, left as they are, removed.

Which there should be is decided in `model/dashboards.py`. What this pipeline did not make is
neither replaced nor removed.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from posture_pipeline.aws.clients import AwsClients, aws_call, error_code
from posture_pipeline.errors import AwsError

if TYPE_CHECKING:
    from posture_pipeline.model.dashboards import Owner, Wanted

DELETED_AT_ONCE = 100
"""Dashboards or alarms of one request (AWS: DeleteDashboards, DeleteAlarms)."""
NAMES_SHOWN = 5
LIST = "cloudwatch:ListDashboards"
GET = "cloudwatch:GetDashboard"
PUT = "cloudwatch:PutDashboard"
DELETE = "cloudwatch:DeleteDashboards"
DESCRIBE_ALARMS = "cloudwatch:DescribeAlarms"
PUT_ALARM = "cloudwatch:PutMetricAlarm"
DELETE_ALARMS = "cloudwatch:DeleteAlarms"

_INVALID_DASHBOARD = frozenset({"InvalidParameterInput", "DashboardInvalidInputError"})
_NO_DASHBOARD = frozenset({"ResourceNotFound", "DashboardNotFoundError"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the dashboards, or of the alarms.

    Attributes:
        put: Names made or replaced.
        unchanged: Names that were as wanted already.
        deleted: Names removed, since nothing wants them any more.
        in_the_way: Wanted names that something has which this pipeline did not make; left alone.
        foreign: Others that this pipeline did not make, under names that it could give; left alone.
        messages: What CloudWatch said of those it took or refused.
    """

    put: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    in_the_way: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """What somebody should look at, as a sentence; null for nothing."""
        notes = list(self.messages[:NAMES_SHOWN])
        if self.in_the_way:
            names = ", ".join(self.in_the_way[:NAMES_SHOWN])
            more = ", ..." if len(self.in_the_way) > NAMES_SHOWN else ""
            notes.append(
                f"Not put, since something has the name that this pipeline did not make "
                f"({len(self.in_the_way):,}): {names}{more}. Rename or remove it, or set another "
                "dashboards.prefix."
            )
        return " ".join(notes) or None


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of both; null for what is not looked after."""

    dashboards: Changes | None
    alarms: Changes | None

    @property
    def counts(self) -> dict[str, int]:
        """How many of each were put, unchanged and so on, such as `dashboards_put`."""
        return {
            f"{kind}_{field.name}": len(getattr(changes, field.name))
            for kind, changes in (("dashboards", self.dashboards), ("alarms", self.alarms))
            if changes is not None
            for field in fields(Changes)
        }

    @property
    def note(self) -> str | None:
        """What somebody should look at, as sentences; null for nothing."""
        found = [each.note for each in (self.dashboards, self.alarms) if each is not None]
        return " ".join(note for note in found if note) or None


def update(clients: AwsClients, wanted: Wanted) -> Updated:
    """Brings dashboards and alarms to what is wanted.

    Raises:
        PermissionMissingError: A call is not allowed; what was done before it stays.
        AwsError: CloudWatch refused or failed.
    """
    dashboards = alarms = None
    if wanted.dashboards is not None:
        bodies = {each.name: each.body for each in wanted.dashboards}
        dashboards = update_dashboards(clients, wanted.owner, bodies)
    if wanted.alarms is not None:
        properties = {each.name: each.properties for each in wanted.alarms}
        alarms = update_alarms(clients, wanted.owner, properties)
    return Updated(dashboards, alarms)


# --- dashboards -------------------------------------------------------------------------------


def update_dashboards(
    clients: AwsClients, owner: Owner, wanted: Mapping[str, Mapping[str, Any]]
) -> Changes:
    """Puts the dashboards that differ from what is wanted, and removes ours that nothing wants.

    A body is compared as data, so neither spaces nor the order of keys count.

    Raises:
        PermissionMissingError: A call is not allowed.
        AwsError: CloudWatch refused or failed.
    """
    there = [name for name in _listed(clients, owner) if owner.may_have_made(name)]
    bodies = {name: _body(clients, name) for name in there}
    # One that went away meanwhile is null.
    current = {name: body for name, body in bodies.items() if body is not None}
    plan = _plan(wanted, current, ours=owner.made, same=operator.eq)
    put, messages = [], []
    for name in plan.put:
        taken, said = _put(clients, name, wanted[name])
        put += [name] if taken else []
        messages += said
    for batch in _batches(plan.deleted):
        with aws_call(DELETE, place=_place(clients, batch[0]), aws=clients.aws):
            clients.cloudwatch().delete_dashboards(DashboardNames=batch)
    return replace(plan, put=tuple(put), messages=tuple(messages))


def _listed(clients: AwsClients, owner: Owner) -> list[str]:
    pages = clients.cloudwatch().get_paginator("list_dashboards")
    with aws_call(LIST, place=_place(clients, owner.prefix), aws=clients.aws):
        return [
            entry["DashboardName"]
            for page in pages.paginate(DashboardNamePrefix=f"{owner.prefix}-")
            for entry in page.get("DashboardEntries", [])
        ]


def _body(clients: AwsClients, name: str) -> object:
    """The body as data; null when it went away meanwhile; text when it is no JSON."""
    try:
        with aws_call(GET, place=_place(clients, name), aws=clients.aws):
            text = clients.cloudwatch().get_dashboard(DashboardName=name)["DashboardBody"]
    except AwsError as error:
        if error_code(error) in _NO_DASHBOARD:
            return None
        raise
    try:
        return cast("object", json.loads(text))
    except ValueError:
        return text


def _put(clients: AwsClients, name: str, body: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether CloudWatch took it, and what it said; one that it refuses does not stop the rest."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    try:
        with aws_call(PUT, place=_place(clients, name), aws=clients.aws):
            reply = clients.cloudwatch().put_dashboard(DashboardName=name, DashboardBody=text)
    except AwsError as error:
        if error_code(error) in _INVALID_DASHBOARD:
            return False, [str(error)]
        raise
    return True, [
        f"{name}: {each.get('DataPath', '')} {each.get('Message', '')}".strip()
        for each in reply.get("DashboardValidationMessages") or []
    ]


# --- alarms -----------------------------------------------------------------------------------


def update_alarms(
    clients: AwsClients, owner: Owner, wanted: Mapping[str, Mapping[str, Any]]
) -> Changes:
    """Puts the alarms that differ from what is wanted, and removes ours that nothing wants.

    An alarm that is put again keeps its state (AWS: PutMetricAlarm).

    Raises:
        PermissionMissingError: A call is not allowed.
        AwsError: CloudWatch refused or failed.
    """
    current = {each["AlarmName"]: each for each in _described(clients, owner)}
    plan = _plan(wanted, current, ours=lambda alarm: _is_ours(alarm, owner), same=_has)
    for name in plan.put:
        with aws_call(PUT_ALARM, place=_place(clients, name), aws=clients.aws):
            clients.cloudwatch().put_metric_alarm(**cast("Any", wanted[name]))
    for batch in _batches(plan.deleted):
        with aws_call(DELETE_ALARMS, place=_place(clients, batch[0]), aws=clients.aws):
            clients.cloudwatch().delete_alarms(AlarmNames=batch)
    return plan


def _described(clients: AwsClients, owner: Owner) -> list[Mapping[str, Any]]:
    pages = clients.cloudwatch().get_paginator("describe_alarms")
    with aws_call(DESCRIBE_ALARMS, place=_place(clients, owner.prefix), aws=clients.aws):
        return [
            cast("Mapping[str, Any]", alarm)
            for page in pages.paginate(
                AlarmNamePrefix=f"{owner.prefix}-", AlarmTypes=["MetricAlarm"]
            )
            for alarm in page.get("MetricAlarms", [])
        ]


def _is_ours(alarm: Mapping[str, Any], owner: Owner) -> bool:
    return str(alarm.get("AlarmDescription") or "").startswith(owner.mark)


def _has(alarm: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    # A field that a reply leaves out is an empty list.
    return all(alarm.get(key, []) == value for key, value in properties.items())


def _plan(
    wanted: Mapping[str, Mapping[str, Any]],
    current: Mapping[str, Any],
    *,
    ours: Callable[[Any], bool],
    same: Callable[[Any, Mapping[str, Any]], bool],
) -> Changes:
    """What has to change, by name; what this pipeline did not make is left alone."""
    mine = {name for name, found in current.items() if ours(found)}
    free = [name for name in wanted if name in mine or name not in current]
    unchanged = [name for name in free if name in mine and same(current[name], wanted[name])]
    return Changes(
        put=tuple(name for name in free if name not in set(unchanged)),
        unchanged=tuple(unchanged),
        deleted=tuple(sorted(mine - set(wanted))),
        in_the_way=tuple(name for name in wanted if name in current and name not in mine),
        foreign=tuple(sorted(set(current) - set(wanted) - mine)),
    )


def _batches(names: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), DELETED_AT_ONCE):
        yield list(names[start : start + DELETED_AT_ONCE])


def _place(clients: AwsClients, name: str) -> str:
    return f"{clients.region}, {name}"
