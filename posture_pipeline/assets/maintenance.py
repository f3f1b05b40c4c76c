"""The job that maintains the lake: ops, not assets, because what it does is of no day.

What is removed, put together and deleted is decided in `lake/maintenance.py`, what counts as damage
in `lake/doctor.py`.
"""

from collections.abc import Callable, Iterable

import dagster as dg

from posture_pipeline.explain_words import count
from posture_pipeline.lake.maintenance import Done, Maintenance, by_kind
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.resources import Clock, Tell
from posture_pipeline.settings import Settings

MAINTENANCE_JOB = "maintenance"
PROBLEMS_SHOWN = 20


def maintenance_job() -> dg.JobDefinition:
    """The job: old findings removed, past months compacted, what nobody reads deleted, a check."""
    retention = _step(
        "retention",
        Maintenance.remove,
        "Takes findings beyond their retention out of the lake. Their files are deleted by a later "
        "run, when nobody can be reading them any more.",
    )
    compaction = _step(
        "compaction",
        Maintenance.compact,
        "Puts the score tables of each past month into one file; readers never wait.",
    )
    deletion = _step(
        "deletion",
        Maintenance.delete,
        "Deletes the files that an earlier run took out of the commits.",
    )

    @dg.job(
        name=MAINTENANCE_JOB,
        executor_def=dg.in_process_executor,
        description=(
            "Retention of findings, compaction of past months, and a check of the lake; weekly."
        ),
    )
    def maintenance() -> None:
        lake_is_whole(deletion(compaction(retention())))

    return maintenance


def _step(name: str, act: Callable[[Maintenance], list[Done]], description: str) -> dg.OpDefinition:
    @dg.op(
        name=name,
        description=description,
        ins={"after": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
    )
    def step(
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
        tell: dg.ResourceParam[Tell],
    ) -> dg.Output[None]:
        with explained():
            done = act(Maintenance(lake, settings.retention, clock(), tell=tell))
        return _told(by_kind(done))

    return step


@dg.op(
    ins={"after": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    description=(
        "Holds every commit against its files, their sizes and rows, and the catalog against the "
        "lake. Fails where something is not as it should be; posture doctor says more."
    ),
)
def lake_is_whole(
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
    tell: dg.ResourceParam[Tell],
) -> dg.Output[None]:
    """Fails where the lake is damaged, so that somebody is told."""
    from posture_pipeline.lake.doctor import Doctor

    with explained():
        doctor = Doctor(lake, now=clock(), fast=True, tell=tell)
        problems = doctor.problems()
    if problems:
        shown = "; ".join(f"{each.place}: {each.problem}" for each in problems[:PROBLEMS_SHOWN])
        message = f"The lake is not whole, see posture doctor. {len(problems)} problems: {shown}"
        raise dg.Failure(message, allow_retries=False)
    examined = doctor.examined
    return dg.Output(None, metadata={"commits": examined.commits, "files": examined.files})


def _told(done: Iterable[Done]) -> dg.Output[None]:
    """What was done, a line for each kind and table."""
    lines = [
        f"- {each.what} {each.table}: {count(len(each.days), 'day')}, "
        f"{count(each.files, 'file')}, {each.bytes / 1e6:,.1f} MB ({each.why})"
        for each in done
    ]
    return dg.Output(None, metadata={"done": dg.MetadataValue.md("\n".join(lines) or "nothing")})
