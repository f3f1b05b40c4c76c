"""Findings that change while they are paged: none is missed, and the newest of each counts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from posture_pipeline.aws.clients import AwsClients
from posture_pipeline.aws.rate import RateBudget
from posture_pipeline.aws.security_hub import (
    Collected,
    PassingCollectionError,
    collect,
    shards,
    updates_of,
)
from posture_pipeline.lake.findings import Merged, merge_pages
from posture_pipeline.lake.raw_pages import RawPagesWriter, raw_files, read_pages
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.collection import is_updates_shard
from posture_pipeline.schemas import MERGED_FINDINGS
from posture_pipeline.settings import DEMO_REPORTS, Aws, Settings
from posture_pipeline.simulation.movement import MovingFindings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import Movement, SimulationSettings

pytestmark = pytest.mark.functional

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
DAY = NOW.date()
SETTINGS = Settings(reports=DEMO_REPORTS, archived_days=0)
PAGE = 40
ALL = Movement().kinds


@pytest.fixture(scope="module")
def hub() -> Iterator[SimulationServer]:
    organization = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
    with serve(organization) as server:
        yield server


@pytest.fixture(scope="module")
def clients(hub: SimulationServer) -> AwsClients:
    return AwsClients(Aws(endpoint_url=hub.url), attempts=1)


def moving(hub: SimulationServer, **movement: Any) -> MovingFindings:
    hub.clear()
    hub.set_clock(NOW)
    found = hub.set_movement(Movement(**movement))
    assert found is not None
    return found


def collected_into(
    lake: Lake, clients: AwsClients, settings: Settings = SETTINGS, **more: Any
) -> Collected:
    writer = RawPagesWriter(lake, DAY)
    options: dict[str, Any] = {"page_size": PAGE, "pages_per_file": 2, "began": writer.began}
    collected = collect(
        clients,
        settings,
        writer,
        day=DAY,
        budgets=lambda _region: RateBudget.unlimited(),
        sleep=lambda _seconds: None,
        **{**options, **more},
    )
    writer.commit(
        [count.shard for count in collected.shards],
        {"collected_at": collected.collected_at.isoformat(), "collect": settings.collect},
    )
    return collected


State = dict[tuple[str, str], tuple[str, str]]


def stored(lake: Lake) -> State:
    rows = lake.scan(MERGED_FINDINGS, DAY).select(
        "product_arn",
        "finding_id",
        pl.col("updated_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        "record_state",
    )
    return {(product, name): tuple(rest) for product, name, *rest in rows.collect().rows()}


def at_aws(found: MovingFindings) -> State:
    return {key: (each["UpdatedAt"], each["RecordState"]) for key, each in found.now().items()}


def assert_nothing_is_missed(lake: Lake, found: MovingFindings) -> None:
    """Every finding of before that is still there is stored as it was at the last page."""
    have, now = stored(lake), at_aws(found)
    wanted = {
        key: state for key, state in now.items() if "/securityhub" in key[0] or "/config" in key[0]
    }
    wanted = {k: s for k, s in wanted.items() if k in found.original and s[1] == "ACTIVE"}
    assert len(wanted) > 300
    assert {key: have.get(key) for key in wanted} == wanted
    archived = {key for key, (_, state) in now.items() if state == "ARCHIVED"}
    assert not [key for key in archived if have.get(key, ("", ""))[1] == "ACTIVE"]


@examples(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A smaller example of the same takes minutes to find, and says no more.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    seed=st.integers(0, 2**32),
    changes=st.integers(1, 6),
    page_size=st.integers(30, 100),
    sharded=st.booleans(),
    how=st.sampled_from([("key", ALL), ("position", ("updated", "created"))]),
)
def test_no_finding_is_missed_whatever_moves_while_it_is_paged(
    hub: SimulationServer,
    clients: AwsClients,
    seed: int,
    changes: int,
    page_size: int,
    sharded: bool,
    how: tuple[Any, Any],
) -> None:
    tokens, kinds = how
    found = moving(hub, seed=seed, changes=changes, tokens=tokens, kinds=kinds)
    settings = SETTINGS.model_copy(update={"shards": sharded})
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        collected = collected_into(lake, clients, settings, page_size=page_size)
        merged = merge_pages(lake, DAY)
        assert collected.unsettled == ()
        assert_nothing_is_missed(lake, found)
        assert merged.records == merged.findings.rows + merged.duplicates + merged.quarantined


def merged_day(lake: Lake, clients: AwsClients, **more: Any) -> tuple[Collected, Merged]:
    return collected_into(lake, clients, **more), merge_pages(lake, DAY)


def test_without_changes_nothing_has_moved_and_one_page_of_updates_is_asked_for(
    hub: SimulationServer, clients: AwsClients, lake: Lake
) -> None:
    moving(hub, changes=0)
    collected, merged = merged_day(lake, clients)
    assert (collected.updates, merged.moved, merged.duplicates) == (0, 0, 0)
    updates = [count for count in collected.shards if is_updates_shard(count.shard)]
    assert [count.pages for count in updates] == [1] * 10


def test_the_findings_that_moved_are_counted(
    hub: SimulationServer, clients: AwsClients, lake: Lake
) -> None:
    """Those that only a pass for updates brought, or brought newer: held against the pages."""
    moving(hub, seed=3, changes=4)
    collected, merged = merged_day(lake, clients)
    newest: dict[bool, dict[tuple[str, str], str]] = {True: {}, False: {}}
    for shard, path, _ in raw_files(lake, DAY):
        of_updates = newest[is_updates_shard(shard)]
        for page in read_pages(lake, DAY, path):
            for each in json.loads(page)["Findings"]:
                key = each["ProductArn"], each["Id"]
                of_updates[key] = max(of_updates.get(key, ""), each["UpdatedAt"])
    moved = [key for key, at in newest[True].items() if at > newest[False].get(key, "")]
    assert merged.moved == len(moved) > 10
    assert collected.updates >= len(moved)


def test_a_finding_fixed_while_failing_ones_are_collected_does_not_stay_failing(
    hub: SimulationServer, clients: AwsClients, lake: Lake
) -> None:
    found = moving(hub, seed=5, changes=6, kinds=("updated",))
    settings = SETTINGS.model_copy(update={"collect": "failing"})
    collected_into(lake, clients, settings)
    merge_pages(lake, DAY)
    rows = lake.scan(MERGED_FINDINGS, DAY).select("product_arn", "finding_id", "compliance_status")
    now = found.now()
    wrong = [
        (name, status)
        for product, name, status in rows.collect().rows()
        if now[product, name]["Compliance"]["Status"] != status
    ]
    assert wrong == []


def test_a_collection_that_stopped_asks_for_updates_since_it_began(
    hub: SimulationServer, clients: AwsClients, lake: Lake
) -> None:
    """What moved before it stopped has moved; the time is the endpoint's, as it was stored."""
    found = moving(hub, seed=11, changes=5)
    fault = {"kind": "error", "operation": "GetFindings", "after": 15, "times": None}
    hub.inject([fault])
    with pytest.raises(PassingCollectionError):
        collected_into(lake, clients, workers=1, pages_per_file=1)
    hub.clear_faults()
    hub.application.clear_calls()
    hub.set_clock(NOW + timedelta(minutes=40))
    collected_into(lake, clients, pages_per_file=1)
    merge_pages(lake, DAY)
    assert_nothing_is_missed(lake, found)
    asked = [
        call["filters"]["UpdatedAt"][0]["Start"]
        for call in hub.calls("GetFindings")
        if "UpdatedAt" in call["filters"]
    ]
    assert min(asked) < "2026-11-23T06:00:00.000Z"


def test_the_updates_of_a_shard_are_asked_for_with_bounds_that_stay() -> None:
    active = shards(Settings(), DAY)[3]
    asked = updates_of(active, 1, NOW, DAY)
    assert asked.name == f"{active.name}-updates-1"
    assert asked.filters["UpdatedAt"] == [
        {"Start": "2026-11-23T06:00:00.000Z", "End": "2026-11-25T00:00:00.000Z"}
    ]
    assert [each["Value"] for each in asked.filters["RecordState"]] == ["ACTIVE", "ARCHIVED"]
    for name in ("GeneratorId", "AwsAccountId"):
        assert asked.filters[name] == active.filters[name]
    assert len(asked.filters) <= 10


def test_findings_that_never_stop_moving_are_told(
    hub: SimulationServer, clients: AwsClients, lake: Lake
) -> None:
    moving(hub, seed=1, changes=60, kinds=("updated",))
    settings = SETTINGS.model_copy(update={"shards": False})
    collected = collected_into(lake, clients, settings, page_size=30)
    assert collected.unsettled == ("eu-west-1-active-all-updates-10",)
