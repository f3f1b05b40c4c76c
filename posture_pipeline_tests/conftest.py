"""What holds for all tests: tiers by folder, no network, shared fixtures.

- `unit`: one module's rules, in memory or on a few small files; no connections, no lake.
- `functional`: real HTTP on loopback, the lake, a Dagster instance, in this process.
- `end_to_end`: the command line or the user interface, in processes of their own.

A test's folder is its tier: the marker follows from it and is checked here.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import hypothesis
import pytest

from posture_pipeline.lake.store import Lake
from posture_pipeline_tests.fortnight import Fortnight
from posture_pipeline_tests.fortnight import fortnight as stored_fortnight

TIERS = ("unit", "functional", "end_to_end")
MARKED_TIERS = TIERS[1:]
FUNCTIONAL_FIXTURES = frozenset({"lake", "fortnight"})
"""Shared fixtures that are too dear for a unit test."""

hypothesis.settings.register_profile("local", deadline=None)
# In CI a failure must come back on the next run, and a pass must not hang on luck.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


# botocore parses its descriptions of AWS again for each session: 0.2 of the 0.25 s of a client.
botocore.loaders.create_loader = functools.cache(botocore.loaders.create_loader)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake in a folder of its own."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def fortnight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortnight]:
    """Thirteen simulated days, the same for every process of the tests; nobody may change them."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with stored_fortnight(shared / "fortnight") as made:
        yield made


# --- tiers ------------------------------------------------------------------------------------


def tier_of(item: pytest.Item) -> str | None:
    """The tier of a test, by its folder; null for tests that are in none."""
    parts = item.path.relative_to(Path(__file__).parent).parts
    return parts[0] if parts[0] in TIERS else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test the marker of its folder; refuses what its tier may not use.

    Raises:
        pytest.UsageError: A test carries another tier's marker, lies in no tier, or is a unit test
            with a functional fixture.
    """
    wrong: list[str] = []
    for item in items:
        tier = tier_of(item)
        if tier is None:
            wrong.append(f"{item.nodeid} must lie in one of the folders {', '.join(TIERS)}")
            continue
        carried = {mark.name for mark in item.iter_markers()} & set(MARKED_TIERS)
        wrong += [f"{item.nodeid} lies in {tier} and is marked {name}" for name in carried - {tier}]
        if tier == "unit":
            dear = FUNCTIONAL_FIXTURES & set(getattr(item, "fixturenames", ()))
            wrong += [f"{item.nodeid} is a unit test and uses {name}" for name in sorted(dear)]
        else:
            item.add_marker(tier)
    if wrong:
        raise pytest.UsageError("\n".join(wrong))


# --- no network -------------------------------------------------------------------------------

_running: dict[str, str | None] = {"tier": None}
_ADDRESS_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_NAME_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: it sees sockets however they were imported, and cannot be patched away.

    Opening a socket is no use of it (urllib3 tries IPv6 that way when it is imported).
    """
    if event in _ADDRESS_EVENTS:
        address = arguments[1]
        if not isinstance(address, tuple):
            return
        host = address[0]
    elif event in _NAME_EVENTS:
        host = arguments[0]
    else:
        return
    if _running["tier"] == "unit":
        pytest.fail(f"a unit test used a socket (to {host})")
    if not _is_loopback(host):
        pytest.fail(f"a test reached for the network: {host}")


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host is None or host in {"", "localhost"}:
        return True
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


sys.addaudithook(_guard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tells the guard whose turn it is, fixtures included."""
    _running["tier"] = tier_of(item)
    try:
        return (yield)
    finally:
        _running["tier"] = None
