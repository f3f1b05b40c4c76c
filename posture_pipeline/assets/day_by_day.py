"""Assets and checks that are written for one day, run over one day or over a range of days.

What is computed from stored snapshots can be computed again for all past days in one run (Dagster's
single-run backfill). The assets and checks know nothing of it: they are functions of a day, and the
decorators here call them for each day of the run, oldest first. The facts of Dagster that this
rests on stand in docs/adr/0008.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import wraps
from typing import Any, TypeAlias, overload

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from posture_pipeline.partitions import days_of
from posture_pipeline.resources import Tell

_TELL: TypeAlias = dg.ResourceParam[Tell]

ONE_RUN = dg.BackfillPolicy.single_run()
"""Backfill policy of the assets that `materialized_by_day` decorates: a range of days, one run."""


def materialized_by_day(
    body: Callable[..., dg.MaterializeResult],
) -> Callable[..., dg.MaterializeResult]:
    """Makes the body of an asset from a function that materializes one day.

    The function takes `day`, and resources. In a run over several days each has a materialization
    of its own, with its own metadata; the first day that fails ends the step, and is named.
    """

    @wraps(body)
    def materialize(
        context: dg.AssetExecutionContext,
        tell: Tell,
        **resources: Any,  # noqa: ANN401 - whatever the body asks for
    ) -> dg.MaterializeResult:
        if "tell" in inspect.signature(body).parameters:
            resources["tell"] = tell
        days = days_of(context)
        if len(days) == 1:
            return body(day=days[0], **resources)
        for number, day in enumerate(days, 1):
            tell(f"{body.__name__}: {day.isoformat()}, day {number} of {len(days)}")
            with _naming(day):
                result = body(day=day, **resources)
            context.add_asset_metadata(result.metadata or {}, partition_key=day.isoformat())
        return dg.MaterializeResult()

    return _with_parameters(materialize, body, context=dg.AssetExecutionContext, tell=_TELL)


Check: TypeAlias = Callable[..., dg.AssetCheckResult]


@overload
def checked_by_day(body: Check) -> Check: ...
@overload
def checked_by_day(*, withholds: bool) -> Callable[[Check], Check]: ...
def checked_by_day(
    body: Check | None = None, *, withholds: bool = False
) -> Check | Callable[[Check], Check]:
    """Makes the body of an asset check from a function that checks one day.

    The function takes `day`, and resources. In a run over several days each day has an evaluation
    of its own; a blocking check that fails on one of them stops what is downstream for all.

    Args:
        body: The function.
        withholds: The scores of a day that fails are withheld anyway. Over several days, which
            publish nothing, it then warns: one bad day of the past must not stop the others.
    """
    if body is None:
        return lambda each: _checked_by_day(each, withholds=withholds)
    return _checked_by_day(body, withholds=withholds)


def _checked_by_day(body: Check, *, withholds: bool) -> Check:

    @wraps(body)
    def check(
        context: dg.AssetCheckExecutionContext,
        **resources: Any,  # noqa: ANN401 - whatever the body asks for
    ) -> Any:  # noqa: ANN401 - a result, or the evaluations of several days
        if context.has_partition_key:
            (day,) = days_of(context)
            return body(day=day, **resources)
        return _evaluations(context, lambda day: body(day=day, **resources), warns=withholds)

    return _with_parameters(check, body, context=dg.AssetCheckExecutionContext)


def _evaluations(
    context: dg.AssetCheckExecutionContext,
    check: Callable[[date], dg.AssetCheckResult],
    *,
    warns: bool,
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """An evaluation for each day of the run.

    Dagster would make one of the whole range, of no day, and leave those of the days open.
    """
    (spec,) = context.check_specs
    yield dg.Output(None)
    for day in days_of(context):
        with _naming(day):
            result = check(day)
        yield dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=result.passed,
            metadata={"day": day.isoformat(), **(result.metadata or {})},
            severity=dg.AssetCheckSeverity.WARN if warns else result.severity,
            description=result.description,
            blocking=spec.blocking,
            partition=day.isoformat(),
            target_materialization_data=_checked_materialization(context, spec.asset_key, day),
        )


def _checked_materialization(
    context: dg.AssetCheckExecutionContext, asset_key: dg.AssetKey, day: date
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """What was checked, as Dagster itself says it in a run of one day."""
    of_day = dg.AssetRecordsFilter(asset_key, asset_partitions=[day.isoformat()])
    records = context.instance.fetch_materializations(of_day, limit=1).records
    return next(
        (
            AssetCheckEvaluationTargetMaterializationData(
                storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
            )
            for record in records
        ),
        None,
    )


@contextmanager
def _naming(day: date) -> Iterator[None]:
    """Puts the day into what a failure says: the step itself names none."""
    try:
        yield
    except dg.Failure as failure:
        said = f"{day.isoformat()}: {failure.description}"
        raise dg.Failure(said, failure.metadata, allow_retries=False) from failure
    except Exception as error:
        said = f"{day.isoformat()}: {type(error).__name__}: {error}"
        raise dg.Failure(said, allow_retries=False) from error


def _with_parameters(
    function: Callable[..., Any],
    body: Callable[..., Any],
    *,
    context: type,
    **resources: Any,  # noqa: ANN401 - annotations
) -> Callable[..., Any]:
    """Tells Dagster the parameters: the context, the body's but for its day, and resources."""
    of_body = inspect.signature(body)
    annotations = {
        "context": context,
        **{
            name: parameter.annotation
            for name, parameter in of_body.parameters.items()
            if name != "day"
        },
        **resources,
    }
    function.__signature__ = of_body.replace(  # type: ignore[attr-defined]
        parameters=[
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
    return function
