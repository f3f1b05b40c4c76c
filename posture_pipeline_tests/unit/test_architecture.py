"""Who may import whom, who reads the environment: the layers, held by reading the imports.

Imports inside functions and for type checkers count too: a layer is what a reader must know.
"""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import posture_pipeline

PACKAGE = "posture_pipeline"
ROOT = Path(posture_pipeline.__file__).parent
RULES = {"schemas", "settings", "errors", "printable", "model"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "printable": set(),
    "schemas": {"errors"},
    # A report's filter is checked when it is loaded, by the rules that evaluate it.
    "settings": {"errors", "model.filters"},
    # Policies for teams have ARNs; which partition a region is in is told in one place.
    "model": RULES | {"aws.partitions"},
    "aws": RULES | {"aws"},
    "lake": RULES | {"lake"},
    "instances": set(),
    "explain_words": {"model"},
    "explain_story": {"model", "errors", "explain_words"},
    "report": RULES | {"report", "lake", "explain_words", "sparkline"},
    "simulation": {"simulation", "errors"},
    "table_docs": {"schemas"},
    "partitions": {"settings"},
    "sparkline": set(),
    "column_lineage": {"schemas"},
    "links": RULES | {"lake", "aws.partitions"},
}
"""What each part may import of ours; parts that are not here may import all but `NEVER`."""

NEVER = {part: {"assets", "checks"} for part in ("cli", "commands", "__main__")} | {
    "assets": {"definitions", "cli", "commands", "running", "simulation", "aws"}
}
"""What the other parts must go around."""

ONLY_IN: dict[str, set[str]] = {
    "boto3": {"aws", "simulation"},
    "botocore": {"aws", "simulation"},
    "moto": {"simulation"},
    "flask": {"simulation"},
    "duckdb": {"lake"},
    "obstore": {"lake"},
    "dagster_celery": {"instances"},
    "jinja2": {"report"},
    "matplotlib": {"report"},
    "dagster": {
        "assets",
        "checks",
        "automation",
        "partitions",
        "metadata",
        "resources",
        "definitions",
        "running",
        "replay_queue",
        "sensors",
        "instances",
    },
}
"""The only parts that may import a library."""

READS_THE_ENVIRONMENT = {
    "definitions",
    "cli",
    "commands.core",
    "running",
    "aws.alerts",
    "aws.clients",
}
BAD_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "misc", "base"}


def module_name(path: Path) -> str:
    """`lake.store` for lake/store.py; `lake` for lake/__init__.py; empty for the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def parsed(path: Path) -> ast.Module:
    with tokenize.open(path) as source:
        return ast.parse(source.read(), str(path))


MODULES = {module_name(path): parsed(path) for path in sorted(ROOT.rglob("*.py"))}

each_module = pytest.mark.parametrize("name", MODULES, ids=lambda name: name or PACKAGE)


def part_of(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def imported(name: str) -> Iterator[str]:
    """Everything a module imports, wherever in it, by full name."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_of_ours(name: str) -> set[str]:
    """The modules of the package that a module imports, without the package's name."""
    found = set()
    for full in imported(name):
        if full.split(".")[0] != PACKAGE:
            continue
        own = full.removeprefix(PACKAGE).lstrip(".")
        while own not in MODULES:
            own = own.rpartition(".")[0]
        found.add(own)
    return found - {""}


def is_within(name: str, parts: set[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@each_module
def test_a_module_imports_only_what_its_layer_may(name: str) -> None:
    part = part_of(name)
    ours = {each for each in imported_of_ours(name) if each != name}
    if part in MAY_IMPORT:
        wrong = {each for each in ours if not is_within(each, MAY_IMPORT[part])}
    else:
        wrong = {each for each in ours if is_within(each, NEVER.get(part, set()))}
    assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


@each_module
def test_a_library_is_used_in_its_own_place_only(name: str) -> None:
    for full in imported(name):
        library = full.split(".")[0]
        allowed = ONLY_IN.get(library)
        assert allowed is None or part_of(name) in allowed, f"{name} imports {full}"


@each_module
def test_the_environment_is_read_in_few_places(name: str) -> None:
    names = {node.attr for node in ast.walk(MODULES[name]) if isinstance(node, ast.Attribute)}
    names |= {full.removeprefix("os.") for full in imported(name) if full.startswith("os.")}
    reads = names & {"environ", "environb", "getenv", "putenv", "expandvars"}
    if name.startswith("simulation"):
        reads -= {"environ"}  # a WSGI server's own, which is no process environment
        assert "os.environ" not in ast.unparse(MODULES[name])
    assert not reads or name in READS_THE_ENVIRONMENT, f"{name} reads {', '.join(reads)}"


@each_module
def test_every_module_says_what_it_holds(name: str) -> None:
    docstring = ast.get_docstring(MODULES[name])
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":")) or len(docstring.splitlines()) > 1


@each_module
def test_no_module_has_a_name_that_says_nothing(name: str) -> None:
    assert not BAD_NAMES & set(name.split("."))


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("__init__.py")), ids=lambda path: path.parent.name
)
def test_packages_are_docstrings_and_not_wiring(path: Path) -> None:
    body = MODULES[module_name(path)].body
    assert all(isinstance(node, ast.Expr | ast.ImportFrom) for node in body)
    assert all(node.module == "__future__" for node in body if isinstance(node, ast.ImportFrom)), (
        path
    )


def test_the_rules_speak_of_parts_that_exist() -> None:
    parts = {part_of(name) for name in MODULES}
    named = (
        set(MAY_IMPORT)
        | set(NEVER)
        | set().union(*ONLY_IN.values())
        | {part_of(name) for name in READS_THE_ENVIRONMENT}
    )
    assert named <= parts
