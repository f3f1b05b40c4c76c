"""Numbers that depend on their inputs alone: on no process, no machine, no call order."""

from __future__ import annotations

from hashlib import blake2b

_TOP = float(1 << 64)


def number(*parts: object) -> int:
    """Return 64 bits that stand for these parts."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def share(*parts: object) -> float:
    """Return a number in [0, 1) that stands for these parts."""
    return number(*parts) / _TOP


def letters(length: int, *parts: object) -> str:
    """Return `length` lower-case letters and digits, as AWS puts behind names it generates."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    value = int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode()).digest(), "big")
    out = []
    for _ in range(length):
        value, position = divmod(value, len(alphabet))
        out.append(alphabet[position])
    return "".join(out)


def uuid_text(value: str) -> str:
    """Return a UUID-shaped text that stands for `value`."""
    h = blake2b(value.encode(), digest_size=16).hexdigest()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
