"""Which objects of the lake are a team's: of its accounts, its report page, and its exports.

How a policy says so stands in `model/access.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from posture_pipeline.errors import InputError
from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.access import Grant, escaped
from posture_pipeline.schemas import ACCOUNT_FINDINGS, ACCOUNT_SCORES

NAMES_SHOWN = 20
"""Of the workloads there are, when the one asked for is not among them."""

FOLDERS = (f"{ACCOUNT_FINDINGS.name}/", f"{ACCOUNT_FINDINGS.name}/date=????-??-??/")
"""Directly below these stand the days and their runs; a run's folder names every account."""


@dataclass(frozen=True, slots=True)
class Team:
    """Who answers for a workload.

    Attributes:
        workload: The workload, all its environments.
        day: The newest stored day.
        accounts: The accounts that are scored under it on that day, in order.
    """

    workload: str
    day: date
    accounts: tuple[str, ...]


def team_of(lake: Lake, workload: str) -> Team:
    """The team of a workload, with the accounts it has on the newest stored day.

    Raises:
        InputError: The lake has no scores, or none of that workload; or another workload's files
            would have the same names.
    """
    day = lake.last_day(ACCOUNT_SCORES.name)
    if day is None:
        message = (
            f"The lake {lake.root} has no scores yet. Run posture run or posture import first."
        )
        raise InputError(message)
    scored = lake.scan(ACCOUNT_SCORES, day).select("workload", "account_id").unique().collect()
    ensure_own_files(workload, scored["workload"], f"on {day.isoformat()}")
    own = scored.filter(pl.col("workload") == workload)["account_id"]
    return Team(workload, day, tuple(sorted(own)))


def ensure_own_files(workload: str, names: Iterable[str], when: str) -> None:
    """Makes sure that a workload is there, and that no other one has files of the same names.

    Args:
        workload: The workload that is asked for.
        names: Of all workloads there are.
        when: On which days these are there, for a message.

    Raises:
        InputError: It is not there, or another one has: whoever chose its name made it so.
    """
    known = sorted(set(names))
    if workload not in known:
        shown = ", ".join(map(repr, known[:NAMES_SHOWN]))
        more = ", ..." if len(known) > NAMES_SHOWN else ""
        message = f"There is no workload {workload!r} {when}; there are: {shown or 'none'}{more}."
        raise InputError(message)
    slug = layout.workload_slug(workload)
    same = [each for each in known if each != workload and layout.workload_slug(each) == slug]
    if same:
        message = (
            f"The workloads {workload!r} and {same[0]!r} would share the files named {slug}; "
            f"rename one of them (accounts.overrides in the settings)."
        )
        raise InputError(message)


def workloads_on(lake: Lake, day: date) -> list[str]:
    """The workloads with scores on a day, by name.

    Raises:
        LakeError: The lake has no scores of the day.
    """
    scored = lake.scan(ACCOUNT_SCORES, day).select("workload").unique().collect()
    return sorted(scored["workload"])


def grants_of(team: Team) -> list[Grant]:
    """What a team may read: the page and exports first, then each account's findings."""
    exports = f"{layout.exports_of(team.workload)}/*"
    page = f"{layout.REPORT}/{layout.page_name(team.workload)}"
    return [Grant((page, exports), (exports,)), *map(_findings_of, team.accounts)]


def _findings_of(account_id: str) -> Grant:
    folder = layout.account_part(escaped(account_id)).rsplit("/", 1)[0]
    pattern = f"{ACCOUNT_FINDINGS.name}/date=*/run=*/{folder}/*"
    return Grant((pattern,), (pattern,))
