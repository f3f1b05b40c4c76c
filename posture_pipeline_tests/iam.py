"""Judging IAM policies as AWS documents it, for the elements that our policies have.

No library that the tests have does it whole: moto's knows neither resources with `?` nor
conditions, and others take `${*}` for a wildcard. What is not known here fails instead of passing.

Source: AWS IAM user guide, policy evaluation logic, policy variables, condition operators.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

_PART = re.compile(r"\$\{(?P<special>[*?$])\}|(?P<wildcard>[*?])|(?P<text>[^*?])", re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of a resource, or of StringLike, stands for a text."""
    return _compiled(pattern).fullmatch(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    if re.search(r"\$\{(?![*?$]\})", pattern):
        message = f"{pattern} has a policy variable."
        raise NotImplementedError(message)
    parts = (
        {"*": ".*", "?": "."}[each["wildcard"]]
        if each["wildcard"]
        else re.escape(each["special"] or each["text"])
        for each in _PART.finditer(pattern)
    )
    return re.compile("".join(parts), re.DOTALL)


def allows(
    policies: Iterable[Mapping[str, Any]],
    action: str,
    resource: str,
    *,
    prefix: str | None = None,
    delimiter: str | None = None,
    context: Mapping[str, str] | None = None,
) -> bool:
    """Whether any of the policies of a role allows an action on a resource.

    Args:
        policies: All the policies that the role has.
        action: Such as s3:GetObject.
        resource: Its ARN.
        prefix: Of a listing; null: the request has none.
        delimiter: Likewise.
        context: Further keys of the request.
    """
    keys = {"s3:prefix": prefix, "s3:delimiter": delimiter, **(context or {})}
    request = {name: value for name, value in keys.items() if value is not None}
    allowed = False
    for policy in policies:
        assert policy["Version"] == "2012-10-17"
        for statement in policy["Statement"]:
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            assert statement["Effect"] == "Allow"
            applies = any(each.lower() == action.lower() for each in _list(statement["Action"]))
            applies &= any(matches(each, resource) for each in _list(statement["Resource"]))
            allowed |= applies and _holds(statement.get("Condition", {}), request)
    return allowed


def _holds(condition: Mapping[str, Mapping[str, Any]], request: Mapping[str, str]) -> bool:
    """All keys of all operators must match one of their values; one that is not there does not."""
    operators = {"StringEquals": str.__eq__, "StringLike": matches}
    return all(
        name in request and any(operators[operator](each, request[name]) for each in _list(values))
        for operator, keys in condition.items()
        for name, values in keys.items()
    )


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
