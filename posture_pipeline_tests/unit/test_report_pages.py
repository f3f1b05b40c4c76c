"""The report pages as text: what is on them, that none of it is markup, how large they are."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections import Counter
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import posture_pipeline.report
from posture_pipeline.lake.layout import page_name
from posture_pipeline.model.scoring import NO_FINDINGS
from posture_pipeline.report.moves import incomparable
from posture_pipeline.report.pages import INDEX, PAGE_BYTES, pages
from posture_pipeline.report.view import safe_link
from posture_pipeline.settings import DEMO_REPORTS, Settings, Thresholds
from posture_pipeline_tests import report_example as example

SETTINGS = Settings(reports=DEMO_REPORTS)
STATIC = Path(posture_pipeline.report.__file__).parent / "static"
VOID = {"meta", "br", "input", "img", "link", "hr"}
LINKED = ("href", "src", "action", "srcset", "poster", "data", "formaction")


class Page(HTMLParser):
    """A page as a browser reads it: its elements with attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "style"):
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> ends another element"
        self.text += " " if tag in ("td", "th", "li", "p") else ""

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts[-1] += data
        else:
            self.text += data

    def with_attribute(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements
                for key, value in attributes.items()
                if key == name]  # fmt: skip

    def data(self) -> dict[str, object]:
        place = [tag for tag, _ in self.elements if tag in ("script", "style")].index("script")
        value: dict[str, object] = json.loads(self.scripts[place])
        return value


@pytest.fixture(scope="module")
def made() -> dict[str, Page]:
    return {name: Page(text) for name, text in pages(example.stored(), SETTINGS)}


@pytest.fixture(scope="module")
def workload(made: dict[str, Page]) -> Page:
    return made[page_name(example.WORKLOAD)]


def test_there_is_a_page_for_each_workload_and_the_organization_comes_last(
    made: dict[str, Page],
) -> None:
    assert list(made) == [page_name(example.WORKLOAD), "index.html"]
    links = set(made["index.html"].with_attribute("href"))
    assert page_name(example.WORKLOAD) in links


def test_names_from_aws_are_text_and_never_markup(made: dict[str, Page]) -> None:
    """Whatever an account, a resource, a note or a title holds, the page has our elements only."""
    for page in made.values():
        assert not page.open
        tags = Counter(tag for tag, _ in page.elements)
        assert tags["script"] == 3
        assert not tags["img"]
        assert not [
            key for _, attributes in page.elements for key in attributes if key.startswith("on")
        ]
        assert not page.with_attribute("style")
        assert example.SCRIPT in page.text
        assert example.IMAGE in page.text
        assert "owned" not in json.dumps([s for s in page.scripts if "Chart" in s])
        assert not any("<" in line for line in page.scripts[1].splitlines())
    index = made["index.html"]
    assert "49" not in made[page_name(example.WORKLOAD)].text.split("C0.")[1][:20]
    assert f"{example.IMAGE}production" in index.text


def test_the_data_block_gives_back_the_text_that_it_escapes(workload: Page) -> None:
    block = workload.data()
    assert block["days"] == 12
    charts = block["charts"]
    assert isinstance(charts, list)
    assert [line["name"] for line in charts[0]["lines"]] == list(example.ENVIRONMENTS)


def test_characters_that_are_not_seen_are_shown_as_such(workload: Page) -> None:
    assert "\u202e" not in workload.text
    assert "pay\N{REPLACEMENT CHARACTER}noitcudorp" in workload.text


def test_a_page_asks_for_nothing_but_remediation_links_that_a_person_follows(
    made: dict[str, Page],
) -> None:
    outside = []
    for page in made.values():
        for tag, attributes in page.elements:
            for name in LINKED:
                value = attributes.get(name)
                if value is None or value.startswith("#") or value in made:
                    continue
                assert (tag, name) == ("a", "href"), f"<{tag} {name}={value}>"
                assert value.startswith("https://")
                assert attributes["rel"] == "noopener noreferrer"
                outside.append(value)
        policy = next(v for v in page.with_attribute("content") if "default-src" in v)
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "sourceMappingURL" not in "".join(page.scripts)
    assert outside


def test_only_the_scripts_and_the_style_of_the_page_are_allowed_by_their_hashes(
    workload: Page,
) -> None:
    policy = next(v for v in workload.with_attribute("content") if "default-src" in v)
    style, _, library, own = workload.scripts
    for text in (style, library, own):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.count("sha256-") == 3


def test_gauges_and_tables_show_the_scores_with_one_decimal_and_their_band(workload: Page) -> None:
    gauges = [
        given for tag, given in workload.elements if tag == "canvas" and "data-score" in given
    ]
    places = [(r, e) for r in example.REPORTS for e in example.ENVIRONMENTS]
    assert len(gauges) == len(places)
    for (report, environment), gauge in zip(places, gauges, strict=True):
        score = example.score_of(example.DAY, report, environment)
        if score is None:
            assert (gauge["data-score"], gauge["data-band"]) == ("", "none")
            continue
        assert gauge["data-score"] == f"{score:.4f}"
        band = "red" if score < 90 else "amber" if score < 95 else "green"
        assert gauge["data-band"] == band
        label = f"{report}, {environment}: {score:.1f} of 100, {band}"
        assert label in workload.with_attribute("aria-label")


def test_colours_follow_the_thresholds_of_the_settings() -> None:
    settings = Settings(reports=DEMO_REPORTS, thresholds=Thresholds(red=10, amber=20))
    page = Page(dict(pages(example.stored(), settings))["index.html"])
    assert set(page.with_attribute("data-bands")) == {"green", "green none"}
    assert (page.data()["red"], page.data()["amber"]) == (10, 20)


def test_a_missing_score_says_why_and_what_it_was_last(made: dict[str, Page]) -> None:
    for page in made.values():
        assert f"silent {example.IMAGE}; last 81.2 on 2026-11-01" in " ".join(page.text.split())
    assert "no score (silent" in made[page_name(example.WORKLOAD)].text


def test_marks_stand_on_the_day_on_which_the_control_set_changed() -> None:
    page = Page(next(text for _, text in pages(example.stored(days=40), SETTINGS)))
    charts = page.data()["charts"]
    assert isinstance(charts, list)
    assert charts[0]["marks"] == [[39 - 20, "control set changed, 100 to 103 controls"]]
    assert charts[1]["marks"] == []


def test_what_changed_is_told_with_its_points_cause_and_resources(workload: Page) -> None:
    text = " ".join(workload.text.split())
    assert "\N{MINUS SIGN}1.25 C.1 A title of some length" in text
    assert "HIGH, PASSED to FAILED: the resource passed before and fails now" in text
    assert "passed before, fails since 2026-11-22 10:00 UTC" in text
    assert "and 5 more" in text
    assert "+0.25 Gone.1 A control that left the report HIGH, PASSED to not there" in text


def test_the_backlog_says_how_far_green_is(workload: Page) -> None:
    """Six of twelve controls fail: each is worth 8.33 points, and all are needed for 95."""
    text = " ".join(workload.text.split())
    assert "green with 6 controls (18 resources to fix): 100.0" in text
    assert "+8.33 58.3" in text


def test_exceptions_are_listed_once_with_the_ones_that_end_first_on_top(workload: Page) -> None:
    text = " ".join(workload.text.split("Exceptions")[-1].split())
    order = ["over since 2026-11-21", "ends in 3 days", "until 2027-09-19", "no end agreed"]
    assert [text.index(each) for each in order] == sorted(text.index(each) for each in order)
    assert "4 suppressed" in text
    assert "2 over or about to end" in text
    assert text.count("+0.50 cis-v3, +0.50 fsbp") == 4


def test_a_workload_without_a_score_is_never_said_to_pass_or_to_have_no_exceptions() -> None:
    stored = example.stored()
    assert stored.exceptions is not None
    lost = dataclasses.replace(
        stored,
        controls=stored.controls.clear(),
        exceptions=stored.exceptions.clear(),
        workloads=stored.workloads.with_columns(score=pl.lit(None, pl.Float64)),
    )
    text = " ".join(Page(next(text for _, text in pages(lost, SETTINGS))).text.split())
    assert "more controls may fail than are known" in text
    assert "what is suppressed is not known" in text
    for said in ("Every counted control passes", "Nothing is suppressed", "0 controls"):
        assert said not in text


def test_data_quality_names_what_is_missing(made: dict[str, Page]) -> None:
    text = " ".join(made["index.html"].text.split("Data quality")[-1].split())
    assert "1,234 records, 5 duplicates, 6 in quarantine" in text
    assert f"no findings of aws/config {example.SCRIPT} after 2026-11-20" in text
    assert f"{example.SCRIPT}: SUSPENDED" in text
    assert "Organizations does not list" in text


@pytest.mark.parametrize(
    ("reason", "says_silent"), [("withheld: 3 of 9 findings are gone", False), (NO_FINDINGS, True)]
)
def test_an_account_is_called_silent_only_if_it_sent_no_findings(
    reason: str, says_silent: bool
) -> None:
    """A withheld score has no counts either, though its account did send findings."""
    stored = example.stored()
    without = stored.accounts.with_columns(
        score=pl.lit(None, pl.Float64), findings=pl.lit(None, pl.Int64), reason=pl.lit(reason)
    )
    made = pages(dataclasses.replace(stored, accounts=without), SETTINGS)
    index = next(text for name, text in made if name == "index.html")
    assert ("These accounts are active and sent no findings" in index) == says_silent


def test_accounts_are_called_unlisted_only_where_organizations_lists_any() -> None:
    stored = example.stored()
    imported = dataclasses.replace(
        stored, accounts=stored.accounts.with_columns(account_source=pl.lit("findings"))
    )
    index = next(text for name, text in pages(imported, SETTINGS) if name == "index.html")
    assert "Organizations does not list" not in index


def test_a_workload_with_a_year_of_days_is_small_enough_to_mail() -> None:
    page = next(text for _, text in pages(example.stored(days=366, controls=25), SETTINGS))
    assert Page(page).data()["days"] == 366
    assert len(page.encode()) < PAGE_BYTES


def test_the_page_of_an_organization_of_750_environments_is_small_enough_to_mail() -> None:
    one = example.stored()
    names = [f"a-workload-of-some-name-{number:03d}" for number in range(150)]
    many = pl.concat(
        one.workloads.with_columns(workload=pl.lit(name), reason=pl.lit(None, pl.String))
        for name in names
    )
    *_, (index, page) = pages(dataclasses.replace(one, workloads=many), SETTINGS)
    assert index == INDEX
    assert page.count('class="heat-cell') == 750 * len(example.REPORTS)
    assert len(page.encode()) < PAGE_BYTES


def test_a_page_that_would_be_too_large_leaves_out_resources_and_says_so() -> None:
    many = example.stored(days=366, controls=60, resources=30)
    page = next(text for _, text in pages(many, SETTINGS))
    assert len(page.encode()) < PAGE_BYTES
    assert re.search(r"and \d+ more; <code>posture backlog</code> lists them all", page)
    assert "30 resources" in page


@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True))
def test_two_workloads_never_have_one_page(workloads: list[str]) -> None:
    names = [page_name(each) for each in workloads]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"workload-[a-z0-9-]+\.html", name) for name in names)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "http://example.com", "https://a b", 'https://a"b', "https://a\nb", ""],
)
def test_a_link_that_is_not_plain_https_is_no_link(url: str) -> None:
    assert safe_link(url) is None


def test_vendored_files_are_what_their_authors_published() -> None:
    listed = json.loads((STATIC / "vendor" / "vendored.json").read_text(encoding="utf-8"))
    files = {path.name for path in (STATIC / "vendor").iterdir()} - {"vendored.json"}
    assert files == {each[key] for each in listed for key in ("file", "license_file")}
    for each in listed:
        data = (STATIC / "vendor" / each["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == each["sha256"]
        assert each["version"].encode() in data[:200]
        assert (STATIC / "vendor" / each["license_file"]).read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("gone_on", ["the earlier day", "the later day"])
def test_days_of_which_one_lacks_a_region_are_not_compared_without_a_word(gone_on: str) -> None:
    lacks = "region eu-north-1 was not collected"
    whole = {
        "control_set_hash": "a",
        "method": "1",
        "settings_hash": "s",
        "incomplete": None,
    }
    before = {**whole, "date": date(2026, 11, 22)}
    after = {**whole, "date": date(2026, 11, 23)}
    gone = before if gone_on == "the earlier day" else after
    gone["incomplete"] = lacks
    assert list(incomparable(before, after)) == [f"{lacks} on {gone['date']}"]
    both = ({**each, "incomplete": lacks} for each in (before, after))
    assert list(incomparable(*both)) == []
