"""Logging of what strangers can cause, at a bounded rate."""

from __future__ import annotations

import logging
import time
from typing import Final

__all__ = ["QuietLog"]


class QuietLog:
    """A logger that a stranger cannot fill a disk with: each kind of line at most once an interval.

    Args:
        log: where the lines go.
        interval: seconds between two lines of a kind; the next one says how many were left out.
    """

    def __init__(self, log: logging.Logger, interval: float = 1.0) -> None:
        self._log: Final = log
        self._interval = interval
        self._next: dict[str, float] = {}
        self._dropped: dict[str, int] = {}

    def warning(self, template: str, *values: object) -> None:
        """Logs a line; its template is its kind."""
        now = time.monotonic()
        if now < self._next.get(template, 0.0):
            self._dropped[template] = self._dropped.get(template, 0) + 1
            return
        self._next[template] = now + self._interval
        dropped = self._dropped.pop(template, 0)
        more = f" ({dropped} more like it were not logged)" if dropped else ""
        self._log.warning(template + more, *values)
