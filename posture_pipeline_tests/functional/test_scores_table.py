"""What the table of scores says of a score that is missing."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from posture_pipeline.commands.core import show_scores
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES
from posture_pipeline.settings import Settings
from posture_pipeline_tests.rows import complete

BEFORE, DAY = date(2026, 3, 1), date(2026, 3, 2)
SILENT = "withheld: account 012345678901 ([shop]) sent no findings after 2026-03-01"


def test_below_the_table_is_why_a_score_is_missing_and_what_it_last_was(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    workloads = pl.DataFrame(
        {
            "report": ["cis", "fsbp", "pack", "fsbp"],
            "workload": ["shop", "shop", "shop", "payments"],
            "environment": ["test", "test", "test", "test"],
            "score": [None, None, None, 90.0],
            "reason": [SILENT, SILENT, "no findings", None],
            "last_score": [97.22, 92.55, None, None],
            "last_score_date": [BEFORE, BEFORE, None, None],
        }
    )
    organization = pl.DataFrame({"report": ["fsbp"], "score": [None], "reason": ["withheld: shop"]})
    for table, rows in ((WORKLOAD_SCORES, workloads), (ORGANIZATION_SCORES, organization)):
        lake.replace(table, DAY, complete(table, rows))
    show_scores(Settings(lake=lake.root), DAY)
    said = [line for line in capsys.readouterr().out.splitlines() if "No score" in line]
    assert said == [
        "No score of shop test in cis (last: 97.22 on 2026-03-01), "
        f"fsbp (last: 92.55 on 2026-03-01): {SILENT}.",
        "No score of shop test in pack: no findings.",
        "No score of the organization in fsbp: withheld: shop.",
    ]
