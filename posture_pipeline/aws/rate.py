"""The rate budget: how fast one AWS operation may be asked, over all threads and retries.

Only the arithmetic of waiting belongs here; which call is limited, and by how much, is said where
the call is made.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GET_FINDINGS_RATE = 3.0
"""GetFindings requests a second for an account and region (AWS: Security Hub API reference,
"Welcome", and the service model of botocore)."""
GET_FINDINGS_BURST = 6
"""GetFindings requests that AWS allows at once (same source)."""

_SLOWED_TO = 0.7
"""Share of the rate that is left after a throttled reply, as botocore's adaptive mode has it."""
_SLOWEST = 0.1
"""Share of the rate that throttling never goes below, so that a collection always moves."""
_SECONDS_BETWEEN_PENALTIES = 1.0
"""Replies to requests that were under way together are one event, not one each."""
_SECONDS_TO_RECOVER = 60.0
"""Time in which a rate slowed to nothing would be back in full."""


class RateBudget:
    """A token bucket that several threads share.

    It starts with a single token and never saves more than half of the burst. What AWS counts is
    when requests arrive, and they arrive unevenly; and others in the account (a SIEM, a ticket
    system) draw from the same bucket. The half that is left is room for both. It costs a
    collection less than two seconds once.

    Example:
        >>> budget = RateBudget(rate=2.0, burst=4, clock=lambda: 0.0)
        >>> [budget.reserve() for _ in range(3)]
        [0.0, 0.5, 1.0]
    """

    def __init__(
        self,
        rate: float = GET_FINDINGS_RATE,
        burst: int = GET_FINDINGS_BURST,
        *,
        start: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Makes a bucket.

        Args:
            rate: Requests a second in the long run; `math.inf` for no limit.
            burst: Requests that AWS allows at once.
            start: Tokens at the start.
            clock: Seconds that only go forward.
            sleep: Waits that many seconds.
        """
        if rate <= 0 or burst < 1:
            message = f"rate {rate} and burst {burst} must be positive"
            raise ValueError(message)
        self.rate = rate
        self.capacity = max(1.0, burst / 2)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._share = 1.0
        self._tokens = min(start, self.capacity)
        self._at = clock()
        self._penalized_at = -math.inf

    @classmethod
    def unlimited(cls) -> RateBudget:
        """A budget that never waits, for an endpoint that has no limits."""
        return cls(math.inf)

    @property
    def current_rate(self) -> float:
        """Requests a second allowed now; below `rate` for a while after a throttled reply."""
        with self._lock:
            self._advance()
            return self.rate * self._share

    def reserve(self) -> float:
        """Takes the next free place in the queue.

        Returns:
            Seconds to wait before sending. The place is taken, whether it is used or not.
        """
        if math.isinf(self.rate):
            return 0.0
        with self._lock:
            self._advance()
            self._tokens -= 1
            return max(0.0, -self._tokens / (self.rate * self._share))

    def acquire(self) -> float:
        """Waits for the next free place; returns the seconds waited."""
        seconds = self.reserve()
        if seconds > 0:
            self._sleep(seconds)
        return seconds

    def penalize(self) -> None:
        """Slows down after a throttled reply; the rate comes back by itself."""
        if math.isinf(self.rate):
            return
        with self._lock:
            self._advance()
            if self._at - self._penalized_at < _SECONDS_BETWEEN_PENALTIES:
                return
            self._penalized_at = self._at
            self._share = max(_SLOWEST, self._share * _SLOWED_TO)
            # AWS's bucket is empty, whatever this one believed.
            self._tokens = min(self._tokens, 0.0)

    def _advance(self) -> None:
        now = self._clock()
        seconds = max(0.0, now - self._at)
        self._at = now if seconds > 0 else self._at
        self._tokens = min(self.capacity, self._tokens + seconds * self.rate * self._share)
        self._share = min(1.0, self._share + seconds / _SECONDS_TO_RECOVER)
