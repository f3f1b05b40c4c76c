"""The examples of docs/queries.md: the lake they are asked of, and writing their answers anew.

`python -m posture_pipeline_tests.query_examples` rewrites the page; `make docs` calls it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from posture_pipeline.definitions import build_definitions
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.store import Lake
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

PAGE = Path(__file__).parents[1] / "docs" / "queries.md"
ORGANIZATION = SimulationSettings(accounts=6, resources_per_account=6, rate_limit=None)
DAYS = [date(2026, 3, 5) + timedelta(days=number) for number in range(6)]
"""The page names these days and this organization."""

NOT_NEEDED = {
    "cloudwatch_metrics",
    "cloudwatch_dashboards",
    "posture_report",
    "posture_catalog",
    "workload_exports",
    "athena_manifests",
}
"""Assets that write nothing an example asks for; the catalog is built once, at the end."""

_EXAMPLE = re.compile(r"```sql\n(?P<sql>.*?)```\n\n```text\n(?P<answer>.*?)```\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    """A question of the page with the answer that is printed below it."""

    sql: str
    answer: str


def examples(page: str) -> list[Example]:
    """The questions with their answers, in the order of the page."""
    return [Example(found["sql"], found["answer"]) for found in _EXAMPLE.finditer(page)]


@contextmanager
def example_days(folder: Path) -> Iterator[SimulatedDays]:
    """The organization of the examples with its days in a lake, published."""
    with simulated_days(folder, ORGANIZATION) as days:
        graph = build_definitions(days.settings).resolve_asset_graph()
        names = {key.to_user_string() for key in graph.materializable_asset_keys}
        for day in DAYS:
            result = days.run(day, selection=sorted(names - NOT_NEEDED))
            assert result.success, failures(result)
        publish.rebuild(days.lake)
        yield days


def answer(lake: Lake, sql: str) -> str:
    """The answer to a question as the page prints it: a column wide as its widest value."""
    rows = publish.query(lake, sql)
    cells = [[_cell(value) for value in row] for row in rows.iter_rows()]
    lines = [rows.columns, *cells]
    widths = [max(len(line[at]) for line in lines) for at in range(rows.width)]
    numeric = [dtype.is_numeric() for dtype in rows.dtypes]
    rule = ["-" * width for width in widths]
    return "".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        + "\n"
        for line in (rows.columns, rule, *cells)
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def page_with_answers(page: str, lake: Lake) -> str:
    """The page with the answers that the lake gives now."""
    return _EXAMPLE.sub(
        lambda found: f"```sql\n{found['sql']}```\n\n```text\n{answer(lake, found['sql'])}```\n",
        page,
    )


def main() -> None:
    """Writes docs/queries.md anew."""
    with tempfile.TemporaryDirectory() as folder, example_days(Path(folder)) as days:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page_with_answers(page, days.lake), encoding="utf-8")


if __name__ == "__main__":
    main()
