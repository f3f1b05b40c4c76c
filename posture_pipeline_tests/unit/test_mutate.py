"""Which mutants a source has: what a rule says, and nothing that says nothing to a test."""

from __future__ import annotations

from posture_pipeline_tests.mutate import mutants

SOURCE = '''"""Any FAILED == 1 here is text."""

from typing import Any


def rule(rows: Any | None, *, limit: int = 3) -> str | None:
    """True > False."""
    return "FAILED" if rows.sum(*rows) * 2 >= limit and not rows.empty else "other"
'''


def test_each_mutant_is_the_source_with_one_token_of_a_rule_replaced() -> None:
    found = list(mutants(SOURCE))
    assert [(each.line, each.token, each.replacement) for each in found] == [
        (6, "3", "4"),
        (8, '"FAILED"', '"ANOTHER"'),
        (8, "sum", "max"),
        (8, "*", "/"),
        (8, "2", "3"),
        (8, ">=", ">"),
        (8, "and", "or"),
        (8, "not", ""),
    ]
    *_, last = found
    changed = last.apply(SOURCE).splitlines()
    assert changed[7] == SOURCE.splitlines()[7].replace("not ", " ")
    assert changed[:7] == SOURCE.splitlines()[:7]
