"""The asset that tells people of scores that dropped, once for each change.

Which these are stands in `model/alerts.py`, what is said in `alerting.py`.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from posture_pipeline import alerting
from posture_pipeline.assets import declared, gate
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import SnapshotSource
from posture_pipeline.schemas import ORGANIZATION_SCORES, SCORE_CHANGES, WORKLOAD_SCORES
from posture_pipeline.settings import Settings

NAME = "score_alerts"
CHECK = "alerts_were_delivered"


def alerts_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What people are told of the newest day."""

    @dg.asset(
        **declared.plain(NAME, group="publish", daily=daily, kinds={"sns", "slack"}),
        deps=[
            gate.NAME,
            *gate.IN_THE_LAKE,
            WORKLOAD_SCORES.name,
            ORGANIZATION_SCORES.name,
            SCORE_CHANGES.name,
        ],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=NAME,
                description="Every topic and webhook took the messages of the day.",
            )
        ],
        description=(
            "Messages to SNS topics and webhooks on scores that dropped by more than "
            "alerts.score_drop points since the day before, or are missing: the causes and the "
            "verdict, by owner, once for each change. Days other than the newest tell nobody."
        ),
    )
    def score_alerts(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        day = day_of(context)
        with explained():
            skipped = alerting.why_not(lake, settings, day)
            if skipped is not None:
                return _result({"skipped": skipped})
            # A run may end after midnight; what is older than that is no news.
            send = None if source.is_over(day + timedelta(days=1)) else source.alerts()
            if send is None:
                return _result({"skipped": "the day is over, or was imported"})
            now = datetime.now(UTC)
            days = (day - timedelta(days=1), day)
            delivery = alerting.deliver_again(lake, days, send, now)
            notes = alerting.score_notes(lake, settings, day, now)
            delivery += alerting.deliver(lake, notes, send, now)
        scores = len({key for note in notes for key in note.keys})
        return _result({"scores": scores, "messages": delivery.sent}, list(delivery.failed))

    return [score_alerts]


def _result(facts: dict[str, str | int], failed: list[str] | None = None) -> dg.MaterializeResult:
    # The scores are out already: a channel that is down fails no run.
    checked = dg.AssetCheckResult(
        check_name=CHECK,
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"not_delivered": failed or []},
    )
    return dg.MaterializeResult(metadata=dict(facts), check_results=[checked])
