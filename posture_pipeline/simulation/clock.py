"""The simulated clock: real time until it is set, running on from there afterwards."""

from __future__ import annotations

import datetime as dt
import threading
import time


class SimulatedClock:
    """Tells the time in the simulated organization (UTC)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set_to: dt.datetime | None = None
        self._set_at = 0.0

    def now(self) -> dt.datetime:
        """Return the present moment."""
        with self._lock:
            if self._set_to is None:
                return dt.datetime.now(dt.UTC)
            return self._set_to + dt.timedelta(seconds=time.monotonic() - self._set_at)

    def set(self, moment: dt.datetime) -> None:
        """Let it be `moment` now; one without a time zone is UTC."""
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        with self._lock:
            self._set_to = moment.astimezone(dt.UTC)
            self._set_at = time.monotonic()

    def reset(self) -> None:
        """Go back to real time."""
        with self._lock:
            self._set_to = None
