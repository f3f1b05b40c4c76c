"""The reference pages say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from posture_pipeline.lake.catalog import publish
from posture_pipeline.model import filters
from posture_pipeline.model.reconcile import CAUSES as RECONCILIATION_CAUSES
from posture_pipeline.schemas import TABLES
from posture_pipeline.settings import Report, Settings
from posture_pipeline.table_docs import tables_page

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
CONFIGURATION = DOCS / "configuration.md"


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of the settings by its full name, such as aws.region."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += keys_of(kind, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def test_the_page_of_tables_is_current() -> None:
    """After a change of a schema: make docs."""
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == tables_page()


def test_the_page_of_tables_has_every_table_and_column() -> None:
    page = tables_page()
    for table in TABLES:
        section = page.split(f"\n## {table.name}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| (\w+) \| [^|]+ \| ", section, re.MULTILINE)
        assert rows == ["column", *table.names]


def test_the_page_of_tables_names_everything_in_the_catalog() -> None:
    page = tables_page()
    for path in (REPOSITORY / "posture_pipeline" / "lake" / "catalog").glob("*.sql"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"CREATE OR REPLACE (?:MACRO|VIEW) (\w+)", text):
            assert re.search(rf"^\| {name}\b", page, re.MULTILINE), name
    names = [
        *(table.name for table in publish.DAILY_TABLES),
        *publish.LAKE_VIEWS,
        *(f"{table.name}_on" for table in publish.LAKE_MACROS),
    ]
    for name in names:
        assert re.search(rf"^\| [\w, ()]*\b{name}\b", page, re.MULTILINE), name


@pytest.mark.parametrize("key", keys_of(Settings))
def test_the_page_of_settings_mentions_every_key(key: str) -> None:
    assert f"| `{key}` |" in CONFIGURATION.read_text(encoding="utf-8")


@pytest.mark.parametrize("key", Report.model_fields)
def test_the_page_of_settings_mentions_every_key_of_a_report(key: str) -> None:
    assert f"| `reports[].{key}` |" in CONFIGURATION.read_text(encoding="utf-8")


def test_the_page_of_settings_mentions_no_key_that_is_gone() -> None:
    known = {*keys_of(Settings), *(f"reports[].{name}" for name in Report.model_fields)}
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", text, re.MULTILINE)) <= known


def test_the_page_of_settings_mentions_every_attribute_of_a_filter() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    for name in (*filters.TEXT_COLUMNS, *filters.LIST_COLUMNS, *filters.DATE_COLUMNS):
        assert f"`{name}`" in text, name
    for _, key in filters.MAP_COLUMNS:
        assert key in text


@pytest.mark.parametrize("cause", RECONCILIATION_CAUSES)
def test_the_page_of_reconciliation_says_what_every_cause_means(cause: str) -> None:
    assert f"| `{cause}` |" in (DOCS / "reconciliation.md").read_text(encoding="utf-8")


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
