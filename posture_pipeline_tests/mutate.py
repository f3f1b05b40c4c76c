"""Mutation testing by hand: which single tokens of a module can change without any test failing.

    python -m posture_pipeline_tests.mutate posture_pipeline/model/scoring.py --sample 40

Each mutant is the module with one operator, number, status or word replaced. The tests of the
module run on it in a forked process, until the first one fails. A mutant that survives shows a rule
that no test holds, or a change that means the same. Needs a system that can fork.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import io
import os
import random
import signal
import sys
import time
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parent
OPERATORS = {
    "==": "!=", "!=": "==", ">": ">=", ">=": ">", "<": "<=", "<=": "<", "&": "|", "|": "&",
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "~": "",
}  # fmt: skip
SIGNS = ("*", "+", "-", "/")
WORDS = {
    "True": "False", "False": "True", "and": "or", "or": "and", "not": "", "any": "all",
    "all": "any", "min": "max", "max": "min", "sum": "max", "is_null": "is_not_null",
    "is_not_null": "is_null", "eq_missing": "ne_missing", "ne_missing": "eq_missing",
}  # fmt: skip
TEXTS = {
    "left": "inner", "inner": "left", "semi": "anti", "anti": "semi", "full": "left",
    "first": "last", "last": "first", "before": "after", "after": "before",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One token of a source and what replaces it."""

    line: int
    column: int
    token: str
    replacement: str

    def apply(self, source: str) -> str:
        """The source with the token replaced."""
        lines = source.splitlines(keepends=True)
        text = lines[self.line - 1]
        end = self.column + len(self.token)
        lines[self.line - 1] = text[: self.column] + self.replacement + text[end:]
        return "".join(lines)


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a source; annotations, imports and docstrings have none."""
    left_out = _left_out(ast.parse(source))
    operand = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, column = token.start
        # What unpacks, or is a sign, is no operation between two operands.
        replacement = None if token.string in SIGNS and not operand else _replacement(token)
        operand = token.type in (tokenize.NAME, tokenize.NUMBER) or token.string in (")", "]")
        if replacement is None or any(start <= (line, column) < end for start, end in left_out):
            continue
        yield Mutant(line, column, token.string, replacement)


def _replacement(token: tokenize.TokenInfo) -> str | None:
    text = token.string
    if token.type == tokenize.OP:
        return OPERATORS.get(text)
    if token.type == tokenize.NAME:
        return WORDS.get(text)
    if token.type == tokenize.NUMBER and text.isdigit():
        return str(int(text) + 1)
    if token.type == tokenize.STRING and text[0] == '"' and text[:3] != '"""':
        inner = text[1:-1]
        other = TEXTS.get(inner, "ANOTHER" if inner.isupper() else None)
        return None if other is None else f'"{other}"'
    return None


Span = tuple[tuple[int, int], tuple[int, int]]


def _left_out(tree: ast.Module) -> list[Span]:
    parts: list[ast.expr | ast.stmt | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            parts.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            parts.append(node)
    return [
        ((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0))
        for part in parts
        if part is not None
    ]


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a source that is not in its file."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module, if it is the one."""
        del path, target
        if fullname != self.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self.path))

    def exec_module(self, module: ModuleType) -> None:
        """Runs the source."""
        module.__file__ = str(self.path)
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)  # noqa: S102


class _Fixtures:
    """What conftest gives, without what it imports."""

    @pytest.fixture
    def lake(self, tmp_path: Path) -> object:
        """An empty lake."""
        from posture_pipeline.lake.store import Lake

        return Lake(str(tmp_path / "lake"))


def survives(path: Path, source: str, tests: Sequence[str], seconds: int) -> bool:
    """Whether the tests pass with this source of the module; a hang is no pass."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        name = ".".join(path.with_suffix("").parts)
        sys.meta_path.insert(0, _Mutated(name, path, source))
        options = ["-x", "-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
        os._exit(int(pytest.main([*options, *tests], plugins=[_Fixtures()])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    """Tries the mutants of one module and prints those that survive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module", type=Path, help="such as posture_pipeline/model/scoring.py")
    parser.add_argument("--tests", nargs="*", help="default: the unit tests named after it")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", help="only these lines, such as 120-180")
    parser.add_argument("--seconds", type=int, default=120, help="most that the tests may take")
    arguments = parser.parse_args()
    path: Path = arguments.module
    source = path.read_text(encoding="utf-8")
    tests = arguments.tests or [str(TESTS / "unit" / f"test_model_{path.stem}.py")]
    _prepare()
    started = time.monotonic()
    if not survives(path, source, tests, arguments.seconds):
        print(f"The tests fail, or take longer than {arguments.seconds} s, without any change.")
        return 1
    print(f"Without a change: {time.monotonic() - started:.1f} s.")
    chosen = list(mutants(source))
    if arguments.lines:
        first, _, last = arguments.lines.partition("-")
        chosen = [each for each in chosen if int(first) <= each.line <= int(last or first)]
    number = len(chosen)
    if arguments.sample and arguments.sample < number:
        chosen = random.Random(arguments.seed).sample(chosen, arguments.sample)  # noqa: S311
    alive = 0
    for mutant in sorted(chosen, key=lambda each: (each.line, each.column)):
        if survives(path, mutant.apply(source), tests, arguments.seconds):
            alive += 1
            line = source.splitlines()[mutant.line - 1].strip()
            print(f"{path}:{mutant.line}: {mutant.token} -> {mutant.replacement or 'nothing'}")
            print(f"    {line}", flush=True)
    print(f"{alive} of {len(chosen)} mutants survive ({number} in all).")
    return 0


def _prepare() -> None:
    """Loads what every child needs, and nothing of the package."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    import hypothesis
    import polars as pl  # noqa: F401 - loaded once for all children

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants", deadline=None, derandomize=True, database=None, phases=phases, max_examples=15
    )
    hypothesis.settings.load_profile("mutants")


if __name__ == "__main__":
    raise SystemExit(main())
