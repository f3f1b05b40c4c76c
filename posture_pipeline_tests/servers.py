"""PostgreSQL and Redis servers of the tests' own, from the system's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

PASSWORD = "not/a secret%"


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of the tests' own."""

    port: int
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """What the instances of deploy/ read."""
        return {
            "POSTURE_DB_HOST": "127.0.0.1",
            "POSTURE_DB_PORT": str(self.port),
            "POSTURE_DB_USER": "dagster",
            "POSTURE_DB_PASSWORD": self.password,
            "POSTURE_DB_NAME": "postgres",
        }

    def create_database(self, name: str) -> None:
        """Makes another database beside the one that is there."""
        place = {"host": "127.0.0.1", "port": self.port, "user": "dagster", "dbname": "postgres"}
        connection = psycopg2.connect(**place, password=self.password)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        connection.close()


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, newest version first; null without any."""
    named = shutil.which("initdb")
    places = [Path(named).resolve().parent] if named else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").is_file()), None)


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server that lives as long as the block; skips the test where there is none."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    as_server: dict[str, Any] = {}
    if os.geteuid() == 0:
        # The server refuses to run as root; pytest's own folders are closed to others.
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL is installed without its user, and does not run as root")
        as_server = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="posture-postgres-") as folder:
        if as_server:
            os.chown(folder, as_server["user"], as_server["group"])

        def call(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", f"{folder}/data", *arguments]
            subprocess.run(
                command, cwd=folder, stdout=subprocess.DEVNULL, check=True, timeout=60, **as_server
            )

        secret = Path(folder, "password")
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        call("initdb", "-U", "dagster", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
        listen = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        call("pg_ctl", "-w", "-l", f"{folder}/log", "-o", listen, "start")
        try:
            yield Postgres(port, PASSWORD)
        finally:
            call("pg_ctl", "-m", "immediate", "stop")


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis server that lives as long as the block; skips where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed")
    port = free_port()
    keeps_nothing = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
    command = [program, "--port", str(port), "--requirepass", "secret", *keeps_nothing]
    url = f"redis://:secret@127.0.0.1:{port}/0"
    with subprocess.Popen(command, cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL) as server:
        try:
            retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 200)
            redis.Redis.from_url(url, retry=retry).ping()
            yield url
        finally:
            server.terminate()
