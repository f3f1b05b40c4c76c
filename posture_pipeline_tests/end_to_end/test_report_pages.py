"""The report pages in a real browser: what it shows, what it runs, what it asks for.

Without Chromium these tests are skipped and say so; `.ci/run` installs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from posture_pipeline.lake.layout import page_name
from posture_pipeline.lake.store import Lake
from posture_pipeline.report.pages import pages, write_pages
from posture_pipeline.schemas import ORGANIZATION_SCORES, TABLES, WORKLOAD_SCORES
from posture_pipeline.settings import DEMO_REPORTS, Settings, load_settings
from posture_pipeline_tests import report_example as example
from posture_pipeline_tests.browser import CHROMIUM, launch
from posture_pipeline_tests.commands import posture

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}
HOSTILE = "<script>document.title='owned'</script>"
RENAMED = {"payments": HOSTILE, "acme-payments-production": HOSTILE}

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="Chromium is not installed (Debian: apt-get install chromium), so the report pages "
    "were NOT tried in a browser",
)


@dataclass
class Opened:
    """A page in the browser, and what happened while it was open."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@dataclass
class Site:
    """Pages in a folder, and the browser to open them with."""

    browser: Browser
    lake: Lake
    other: Path
    opened: list[Opened] = field(default_factory=list)

    @property
    def index(self) -> Path:
        return Path(self.lake.root, "report", "index.html")

    def workload(self, name: str) -> Path:
        return self.index.with_name(page_name(name))

    def open(
        self, path: Path, *, theme: str = "light", size: ViewportSize = DESK, **more: Any
    ) -> Opened:
        context = self.browser.new_context(viewport=size, color_scheme=theme, **more)  # type: ignore[arg-type]
        opened = Opened(context.new_page())
        page = opened.page
        page.on("console", lambda message: opened.console.append(message.text))
        page.on("pageerror", lambda error: opened.console.append(str(error)))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(path.as_uri())
        self.opened.append(opened)
        return opened


@pytest.fixture(scope="module")
def lake(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The demo's history with a workload and an account that somebody named to do harm."""
    folder = tmp_path_factory.mktemp("site") / "history"
    shutil.copytree(history, folder)
    lake = Lake(str(folder / "lake"))
    for table in TABLES:
        for day in lake.days(table.name) if "findings" not in table.name else ():
            rows = lake.read(table, day)
            commit = lake.require(table.name, day)
            text = [name for name, dtype in rows.schema.items() if dtype == pl.String]
            lake.replace(table, day, rows.with_columns(pl.col(text).replace(RENAMED)),
                         commit.details)  # fmt: skip
    write_pages(lake, load_settings(folder / "posture.yaml"))
    return lake


@pytest.fixture(scope="module")
def site(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The pages of that lake, and of an organization with a year of days, in one browser."""
    other = tmp_path_factory.mktemp("year")
    for name, text in pages(example.stored(days=366), Settings(reports=DEMO_REPORTS)):
        (other / name).write_text(text, encoding="utf-8")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield Site(browser, lake, other)
        browser.close()


@pytest.fixture(autouse=True)
def _closed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test its pages are closed; none had an error or asked for anything."""
    yield
    if "site" not in request.fixturenames or CHROMIUM is None:
        return
    site: Site = request.getfixturevalue("site")
    opened, site.opened = site.opened, []
    for each in opened:
        each.page.context.close()
    for each in opened:
        assert each.console == []
        assert all(url.startswith("file://") for url in each.requests), each.requests
        assert len(each.requests) == 1


def newest(lake: Lake) -> pl.DataFrame:
    return lake.read(WORKLOAD_SCORES, lake.days(WORKLOAD_SCORES.name)[-1])


def column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"#heat tbody tr:visible > :nth-child({number})").all()
    return [cell.inner_text().strip() for cell in cells]


SCORES_SHOWN = """() => [...document.querySelectorAll('canvas[data-score]')].map(canvas => {
  const label = canvas.parentElement.getAttribute('aria-label');
  const sets = Chart.getChart(canvas).data.datasets;
  return [label, sets[sets.length - 1].data[0], sets[0].data];
})"""


@needs_chromium
def test_gauges_show_the_numbers_of_the_tables(site: Site) -> None:
    rows = newest(site.lake)
    shown = 0
    for workload in rows["workload"].unique():
        page = site.open(site.workload(workload)).page
        gauges = {label: (value, bands) for label, value, bands in page.evaluate(SCORES_SHOWN)}
        for row in rows.filter(pl.col("workload") == workload).iter_rows(named=True):
            place = f"{row['report']}, {row['environment']}"
            if row["score"] is None:
                assert gauges[f"{place}: no score"][0] == 0
                continue
            band = "red" if row["score"] < 90 else "amber" if row["score"] < 95 else "green"
            value, bands = gauges[f"{place}: {row['score']:.1f} of 100, {band}"]
            assert value == pytest.approx(row["score"], abs=0.001)
            assert bands == [90, 5, 5]
            shown += 1
        assert len(gauges) == rows.filter(pl.col("workload") == workload).height
    assert shown > 0


@needs_chromium
def test_the_overview_shows_the_scores_of_the_organization_and_of_every_workload(
    site: Site,
) -> None:
    page = site.open(site.index).page
    organization = site.lake.read(ORGANIZATION_SCORES, site.lake.days(WORKLOAD_SCORES.name)[-1])
    labels = [label for label, *_ in page.evaluate(SCORES_SHOWN)]
    for report, score in organization.select("report", "score").iter_rows():
        assert any(label.startswith(f"{report}: {score:.1f} of 100") for label in labels)
    table = page.locator("#heat").inner_text()
    for workload, score in newest(site.lake).select("workload", "score").iter_rows():
        assert workload in table
        assert score is None or f"{score:.1f}" in table


@needs_chromium
def test_a_column_sorts_up_and_down_with_missing_scores_last(site: Site) -> None:
    page = site.open(site.other / "index.html").page
    heading = page.locator("#heat thead th", has_text=example.REPORTS[-1])
    for direction in ("ascending", "descending"):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        numbers = [float(text.split("\n")[0].split()[1]) for text in column(page, 6)
                   if "no score" not in text]  # fmt: skip
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert len(numbers) == len(example.ENVIRONMENTS) - 1
        assert "no score" in column(page, 6)[-1]
    page.locator("#heat thead th", has_text="Environment").get_by_role("button").click()
    assert column(page, 2) == sorted(example.ENVIRONMENTS)
    assert heading.get_attribute("aria-sort") is None


@needs_chromium
def test_filters_keep_the_rows_that_fit_and_say_how_many(site: Site) -> None:
    page = site.open(site.index).page
    rows = newest(site.lake)
    places = rows.select("workload", "environment").unique()
    count = page.locator("#f-count")
    assert count.inner_text() == f"{places.height} of {places.height} shown"
    page.get_by_label("Workload", exact=True).fill("SCRIPT>")
    assert set(column(page, 1)) == {HOSTILE}
    kept = places.filter(pl.col("workload") == HOSTILE).height
    assert count.inner_text() == f"{kept} of {places.height} shown"
    page.get_by_label("Workload", exact=True).fill("")
    page.get_by_label("Environment", exact=True).select_option("production")
    assert set(column(page, 2)) == {"production"}
    page.get_by_label("Environment", exact=True).select_option("")
    page.get_by_label("Has a score that is").select_option("red")
    red = rows.filter(pl.col("score") < 90).select("workload", "environment").unique().height
    assert len(column(page, 1)) == red
    assert page.locator("#heat tbody tr:visible").count() == red


@needs_chromium
def test_everything_can_be_done_with_the_keyboard(site: Site) -> None:
    page = site.open(site.index).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
        if page.evaluate("document.activeElement.matches('#heat thead button')"):
            break
    page.keyboard.press("Enter")
    assert page.locator("#heat thead th").first.get_attribute("aria-sort") == "ascending"
    assert any("data-range" in each for each in reached)
    assert any("f-text" in each for each in reached)
    page.locator("[data-range='30']").first.focus()
    page.keyboard.press("Space")
    assert page.locator("[data-range='30']").first.get_attribute("aria-pressed") == "true"


@needs_chromium
def test_the_range_of_the_charts_can_be_chosen_and_values_are_shown_where_one_points(
    site: Site,
) -> None:
    page = site.open(site.other / page_name(example.WORKLOAD)).page
    labels = "Chart.getChart('trend-0').data.labels"
    for name, days in (("30 days", 30), ("90 days", 90), ("A year", 366)):
        page.get_by_role("button", name=name).click()
        assert page.evaluate(f"{labels}.length") == days
        assert page.evaluate(f"{labels}.at(-1)") == example.DAY.isoformat()
    chart = page.locator("#trend-0")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    page.wait_for_function("Chart.getChart('trend-0').tooltip.opacity > 0")
    said = page.evaluate("Chart.getChart('trend-0').tooltip.body.map(each => each.lines[0])")
    assert [each.split(":")[0] for each in said] == list(example.ENVIRONMENTS)


@needs_chromium
def test_marks_and_missing_scores_are_in_the_chart_and_among_its_figures(site: Site) -> None:
    page = site.open(site.other / page_name(example.WORKLOAD)).page
    texts = page.evaluate(
        "Chart.getChart('trend-0').data.datasets.filter(each => each.texts)"
        ".map(each => [...each.texts.values()])"
    )
    assert texts == [["control set changed, 100 to 103 controls"]] * 2
    page.locator("details.figures[data-chart='trend-3'] summary").click()
    rows = page.locator("details.figures[data-chart='trend-3'] tbody tr")
    expect(rows).to_have_count(90)
    first = rows.first.inner_text()
    assert first.startswith(example.DAY.isoformat())
    assert "no score: build" in first
    score = example.score_of(example.DAY, example.REPORTS[-1], "production")
    assert f"{score:.2f}".rstrip("0") in first


@needs_chromium
def test_a_report_and_an_environment_can_be_chosen_on_the_page_of_a_workload(site: Site) -> None:
    page = site.open(site.other / page_name(example.WORKLOAD)).page
    page.get_by_label("Report", exact=True).select_option("cis-v3")
    page.get_by_label("Environment", exact=True).select_option("test")
    shown = page.locator(".gauge:visible")
    assert shown.count() == 1
    assert shown.get_attribute("data-report") == "cis-v3"
    blocks = page.locator("#backlog details:visible")
    assert blocks.count() == 1
    assert "cis-v3 · test" in blocks.inner_text()


@needs_chromium
@pytest.mark.parametrize(
    ("theme", "size"),
    [("light", DESK), ("dark", DESK), ("light", PHONE)],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(
    site: Site, theme: str, size: ViewportSize
) -> None:
    for path in (site.index, site.other / page_name(example.WORKLOAD)):
        page = site.open(path, theme=theme, size=size).page
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@needs_chromium
def test_a_name_that_is_a_script_is_shown_and_does_not_run(site: Site) -> None:
    for path in (site.index, site.workload(HOSTILE)):
        page = site.open(path).page
        assert "posture" in page.title()
        assert page.title() != "owned"
        assert HOSTILE in page.locator("body").inner_text()
    assert site.open(site.workload(HOSTILE)).page.locator("h1").inner_text() == HOSTILE


@needs_chromium
def test_a_script_that_is_not_of_the_page_is_refused_by_its_policy(site: Site) -> None:
    opened = site.open(site.index)
    opened.page.evaluate(
        "const script = document.createElement('script');"
        "script.textContent = \"document.title = 'owned'\"; document.body.append(script);"
    )
    assert opened.page.title() != "owned"
    assert "Content Security Policy" in opened.console.pop()


@needs_chromium
def test_paper_is_white_and_has_what_is_folded_away_on_the_screen(site: Site) -> None:
    page = site.open(site.workload(HOSTILE), theme="dark").page
    folded = "document.querySelectorAll('details.block:not(.small):not(.long):not([open])').length"
    before = page.evaluate(folded)
    assert before > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(folded) == 0
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "light"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(folded) == before
    assert page.pdf().startswith(b"%PDF")


@needs_chromium
def test_without_scripts_the_tables_are_all_there(site: Site) -> None:
    page = site.open(site.index, java_script_enabled=False).page
    places = newest(site.lake).select("workload", "environment").unique()
    assert page.locator("#heat tbody tr:visible").count() == places.height
    assert not page.locator("#filters").is_visible()


def test_the_command_writes_the_pages_says_where_and_opens_them(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n', encoding="utf-8")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    index = Path(lake.root, "report", "index.html")
    index.unlink()
    printed = posture("report", "--open", cwd=Path(lake.root).parent).stdout
    assert printed.splitlines()[-1] == str(index)
    assert index.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert seen.read_text(encoding="utf-8").strip() == index.as_uri()
