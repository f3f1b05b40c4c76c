"""Who can reach the Dagster UI: it has no login of its own, so only this machine unless asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode.cfn_yaml import load as load_template

from posture_pipeline.cli import main

DEPLOY = Path(__file__).parents[2] / "deploy"


class ReplacedError(Exception):
    """Instead of becoming another program."""


def command_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that `posture up` becomes."""
    became: list[list[str]] = []

    def execve(_path: str, command: list[str], _environment: dict[str, str]) -> None:
        became.append(command)
        raise ReplacedError

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(ReplacedError):
        main(["up", *arguments])
    return became[0]


def host_in(command: list[str], *options: str) -> str:
    """What follows the option that says where to listen; it must be said once."""
    (place,) = [number for number, word in enumerate(command) if word in options]
    return command[place + 1]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTURE_CONFIG", raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return str(tmp_path / "lake")


def test_the_user_interface_is_reached_from_this_machine_alone(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = command_of(["--lake", lake], monkeypatch)
    assert host_in(command, "--host", "-h") == "127.0.0.1"


def test_the_user_interface_is_opened_to_others_when_that_is_asked_for(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = command_of(["--lake", lake, "--host", "0.0.0.0"], monkeypatch)  # noqa: S104
    assert host_in(command, "--host", "-h") == "0.0.0.0"  # noqa: S104


def commands_in(value: Any) -> list[list[str]]:
    """Every list of words in a document that starts a webserver."""
    if isinstance(value, dict):
        return [each for part in value.values() for each in commands_in(part)]
    if isinstance(value, list):
        if "dagster-webserver" in value:
            return [value]
        return [each for part in value for each in commands_in(part)]
    return []


def test_every_webserver_of_the_deployment_listens_on_its_own_machine_alone() -> None:
    found = commands_in(load_template(str(DEPLOY / "full.yaml")))
    assert found
    for command in found:
        assert host_in(command, "-h", "--host") == "127.0.0.1"
