"""Makes the lakes in `fixtures/`: two days of the smallest simulated organization, as an archive.

Each is written by a version of the pipeline as it was, so that tests can read what that version
left behind. It runs against the package of another checkout, whose folder is given first:

    PYTHONPATH=../checkout python posture_pipeline_tests/make_old_lake.py old.tar.zst

One is kept of every schema version; a lake that was kept is never made anew. With `--columns`
instead of a file it records the columns of the present schema version.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from datetime import date
from pathlib import Path

import pyarrow as pa

from posture_pipeline import schemas
from posture_pipeline.settings import DEMO_REPORTS
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import failures, simulated_days

DAYS = (date(2026, 3, 2), date(2026, 3, 3))
SMALLEST = SimulationSettings(
    accounts=5, resources_per_account=5, regions=("eu-west-1",), rate_limit=None
)
REPORTS = DEMO_REPORTS[1:]
"""All kinds of report, without the largest."""
LEFT_OUT = (
    "report",
    f"raw_finding_pages/date={DAYS[0]}",
    f"merged_findings/date={DAYS[0]}",
)
"""What makes the archive large: pages for people, and what retention removes first."""


def main(archive: Path) -> None:
    """Runs the days and packs their lake."""
    with tempfile.TemporaryDirectory() as folder:
        with simulated_days(Path(folder), SMALLEST, reports=REPORTS) as days:
            for day in DAYS:
                result = days.run(day)
                if not result.success:
                    raise SystemExit(str(failures(result)))
        archive.write_bytes(packed(Path(folder, "lake")))


def packed(lake: Path) -> bytes:
    """The files of a lake in one compressed archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(lake.rglob("*")):
            name = path.relative_to(lake)
            if path.is_file() and not any(name.is_relative_to(each) for each in LEFT_OUT):
                tar.add(path, name)
    return bytes(pa.Codec("zstd", compression_level=19).compress(buffer.getvalue()))


def record_columns() -> None:
    """Notes the columns of every table and their dtypes under the present schema version."""
    columns = {
        table.name: {column.name: str(column.dtype) for column in table.columns}
        for table in schemas.TABLES
    }
    path = Path(__file__).parent / "fixtures" / f"columns_v{schemas.SCHEMA_VERSION}.json"
    path.write_text(json.dumps(columns, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--columns":
        record_columns()
    else:
        main(Path(sys.argv[1]))
