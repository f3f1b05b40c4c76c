"""The token bucket that answers too many requests with a refusal, as AWS does."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from posture_pipeline.simulation.settings import RateLimit


class TokenBucket:
    """Allows `burst` requests at once and `requests_per_second` on average.

    Args:
        limit: None allows everything.
        clock: seconds that only go forward; real ones, whatever day is simulated.
    """

    def __init__(
        self, limit: RateLimit | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, float]] = {}
        self.limit = limit

    def take(self, key: str) -> bool:
        """Return whether a request may go on; each key (account and region) has its own bucket."""
        limit = self.limit
        if limit is None:
            return True
        with self._lock:
            now = self._clock()
            tokens, last = self._tokens.get(key, (float(limit.burst), now))
            tokens = min(float(limit.burst), tokens + (now - last) * limit.requests_per_second)
            allowed = tokens >= 1.0
            self._tokens[key] = (tokens - 1.0 if allowed else tokens, now)
            return allowed

    def refill(self) -> None:
        """Forget every request so far."""
        with self._lock:
            self._tokens.clear()
