"""Text of other people, such as names and notes in AWS, made harmless to print."""

from __future__ import annotations


def printable(text: str, instead: str = "?") -> str:
    r"""The text with nothing in it that could steer a terminal or a page.

    Args:
        text: Any text.
        instead: What stands in for each character that is not printable.

    >>> printable("red \x1b[31m")
    'red ?[31m'
    """
    return "".join(each if each.isprintable() else instead for each in text)
