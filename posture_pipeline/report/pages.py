"""The pages themselves: one self-contained HTML file each, written into the lake.

What stands on them is decided in `view.py`. Everything that comes from AWS is somebody else's text:
templates escape it, a data block cannot be ended by it, and a page may run and load nothing but
what is named here by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from posture_pipeline.lake.layout import HASH_LENGTH, REPORT, page_name
from posture_pipeline.lake.store import Lake
from posture_pipeline.report import data
from posture_pipeline.report.view import RESOURCES_SHOWN, Views
from posture_pipeline.settings import Settings

INDEX = "index.html"
HTML = "text/html; charset=utf-8"

PAGE_BYTES = 1_000_000
"""A page that is larger is not mailed easily: resources are left out until it is smaller."""

_OURS = re.compile(rf"workload-[a-z0-9-]*[0-9a-f]{{{HASH_LENGTH}}}\.html")
_VENDORED = "chart.js-4.6.1.umd.min.js"
_SOURCE_MAP = re.compile(r"\n//# sourceMappingURL=\S+\s*$")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        day: The day that the pages show.
        pages: How many.
        bytes: Of all pages.
        largest: Bytes of the largest.
        index: Full path or URI of the organization's page.
    """

    day: date
    pages: int
    bytes: int
    largest: int
    index: str


def write_pages(lake: Lake, settings: Settings) -> Written:
    """Writes the pages of the newest day, and deletes those of workloads that are gone.

    The organization's page is written last, so it names no page that is not there.

    Raises:
        InputError: The lake has no scores.
        LakeError: The lake lacks a table of the day that the pages cannot do without.
    """
    stored = data.read(lake, settings)
    sizes: dict[str, int] = {}
    for name, page in pages(stored, settings):
        body = page.encode()
        lake.put(f"{REPORT}/{name}", body, content_type=HTML)
        sizes[name] = len(body)
    _, there = lake.names(REPORT)
    for name in there:
        if _OURS.fullmatch(name) and name not in sizes:
            lake.delete(f"{REPORT}/{name}")
    index = lake.uri(f"{REPORT}/{INDEX}")
    return Written(stored.day, len(sizes), sum(sizes.values()), max(sizes.values()), index)


def pages(stored: data.Stored, settings: Settings) -> Iterable[tuple[str, str]]:
    """The name and text of every page, the organization's last."""
    views = _views(stored, settings)
    environment = _environment()
    for workload, name in views.pages.items():
        yield name, _workload_page(environment, views, workload)
    yield INDEX, _render(environment, "index.html.j2", views, views.organization())


def page_of(stored: data.Stored, settings: Settings, workload: str) -> str:
    """The text of the page of one workload that has scores on the day."""
    return _workload_page(_environment(), _views(stored, settings), workload)


def _views(stored: data.Stored, settings: Settings) -> Views:
    workloads = stored.workloads["workload"].unique().sort()
    return Views(stored, settings.thresholds, {each: page_name(each) for each in workloads})


def _workload_page(environment: jinja2.Environment, views: Views, workload: str) -> str:
    """The page of a workload, with fewer resources where it would be too large."""
    view = views.workload(workload)
    page = ""
    for shown in (RESOURCES_SHOWN, 10, 3, 0):
        page = _render(environment, "workload.html.j2", views, view | {"resources_shown": shown})
        if len(page.encode()) < PAGE_BYTES:
            break
    return page


def _render(
    environment: jinja2.Environment, template: str, views: Views, view: dict[str, Any]
) -> str:
    stored = views.stored
    style, library, script = (
        _static("report.css"),
        _SOURCE_MAP.sub("\n", _static(f"vendor/{_VENDORED}")),
        _static("report.js"),
    )
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; "
        f"style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        view,
        day=stored.day,
        collected_at=stored.collected_at,
        since=views.since,
        thresholds=views.thresholds,
        # Our own files, and JSON that holds no mark of HTML: not to be escaped.
        policy=Markup(policy),  # noqa: S704
        style=Markup(style),  # noqa: S704
        library=Markup(library),  # noqa: S704
        script=Markup(script),  # noqa: S704
        json=Markup(_json(view["data"])),  # noqa: S704
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("posture_pipeline.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["points"] = _points
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment


def _printable(value: object) -> object:
    """Text without characters that are not seen: they could turn its direction, or hide it."""
    if value is None or isinstance(value, Markup) or not isinstance(value, str):
        return "" if value is None else value
    return value if value.isprintable() else _shown(value)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _points(value: float | None) -> str:
    """Points with their sign, the minus a real one."""
    return "" if value is None else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _json(value: object) -> str:
    r"""JSON that a script element can hold whatever is in it.

    >>> _json({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _static(name: str) -> str:
    return files("posture_pipeline.report").joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
