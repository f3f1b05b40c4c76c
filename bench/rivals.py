"""What a capable user would write instead: a DuckDB script, and a loop over boto3's pages.

Both go straight from the stored pages to the account scores of every report, keep no rows, set
nothing aside and know nothing of duplicates, so that they do less than the pipeline does. Their
scores must be equal to it: `bench` fails otherwise.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCORES = ("report", "account_id", "passed", "failed", "unknown", "score")
"""Columns of the scores that are compared."""


def duckdb_script(pages: str, controls: Path, scores: Path, *, cores: int) -> None:
    """Scores by one SQL script.

    Args:
        pages: Glob pattern of the raw files.
        controls: JSON file of what the reports expect: see `steps.write_controls`.
        scores: CSV file to write.
        cores: Threads of DuckDB.
    """
    import duckdb

    script = Path(__file__).with_name("rival.sql").read_text(encoding="utf-8")
    with duckdb.connect(config={"threads": cores}) as connection:
        connection.execute("SET VARIABLE pages = ?", [pages])
        connection.execute("SET VARIABLE controls = ?", [str(controls)])
        connection.execute(script)
        connection.execute(f"COPY scores TO '{scores}' (HEADER)")


def boto3_loop(shards: list[list[Path]], controls: Path, scores: Path) -> int:
    """Scores by a loop over the pages that boto3's paginator gives; returns the findings.

    The pages come from the files instead of the network, which costs less than any network.

    Args:
        shards: The raw files of each shard.
        controls: JSON file of what the reports expect.
        scores: CSV file to write.
    """
    import boto3

    client = boto3.client(
        "securityhub",
        region_name="eu-west-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106 - nobody is asked
    )
    pages: Iterator[bytes] = iter(())

    def answer(request: Any, **_: object) -> Any:  # noqa: ANN401 - botocore's
        from botocore.awsrequest import AWSResponse
        from botocore.compat import HTTPHeaders

        headers = HTTPHeaders.from_dict({"Content-Type": "application/json"})
        return AWSResponse(request.url, 200, headers, _Body(next(pages)))

    client.meta.events.register("before-send.securityhub.GetFindings", answer)
    statuses: dict[tuple[str, str], set[str]] = defaultdict(set)
    standards_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    hidden: set[tuple[str, str]] = set()
    reporting = set()
    findings = 0
    for shard in shards:
        pages = (page for path in shard for page in _pages(path))
        for page in client.get_paginator("get_findings").paginate():
            for finding in page["Findings"]:
                findings += 1
                if finding["RecordState"] != "ACTIVE":
                    continue
                account = finding["AwsAccountId"]
                reporting.add(account)
                compliance = finding["Compliance"]
                rule = finding["ProductFields"].get("aws/config/ConfigRuleName")
                key = (account, rule or compliance["SecurityControlId"])
                if finding["Workflow"]["Status"] == "SUPPRESSED":
                    hidden.add(key)
                    continue
                statuses[key].add(compliance["Status"])
                for standard in compliance.get("AssociatedStandards", ()):
                    standards_of[key].add(standard["StandardsId"])
    rows = []
    for report in json.loads(controls.read_text(encoding="utf-8")):
        for account in sorted(reporting):
            counts = {"passed": 0, "failed": 0, "unknown": 0}
            for control in report["controls"]:
                key = (account, control)
                found = statuses.get(key)
                if report["standard"] and report["standard"] not in standards_of.get(key, ()):
                    continue
                if found is None:
                    counts["passed"] += key not in hidden
                elif "FAILED" in found:
                    counts["failed"] += 1
                elif found != {"PASSED"}:
                    counts["unknown"] += 1
                else:
                    counts["passed"] += 1
            total = sum(counts.values())
            score = 100 * counts["passed"] / total if total else None
            rows.append([report["report"], account, *counts.values(), score])
    with scores.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(SCORES)
        writer.writerows(rows)
    return findings


class _Body:
    """The bytes of a reply, as botocore reads them from a socket."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self._body


def _pages(path: Path) -> Iterator[bytes]:
    import pyarrow as pa

    with pa.input_stream(str(path), compression="zstd") as stream:
        import io

        yield from io.BufferedReader(stream, 1 << 20)
