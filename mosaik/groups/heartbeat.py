"""Finding out that the other end of a bond has gone without a word."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from mosaik.groups.config import ConsensusConfig

__all__ = ["Heartbeat"]


class Heartbeat:
    """Looks at a bond every interval, less a little at random.

    An interval in which nothing was heard is a miss, ``max_missed_heartbeats`` of them in a row end the
    bond. An interval in which nothing was said is filled with a ping. Any message counts for both, so
    a busy bond costs nothing but two assignments a message.

    Args:
        config: interval, jitter and the number of misses.
        ping: is called to say something.
        dead: is called once, when the other end has been silent for too long.
    """

    __slots__ = ("_config", "_dead", "_loop", "_missed", "_ping", "_timer", "heard", "said")

    def __init__(
        self, config: ConsensusConfig, ping: Callable[[], None], dead: Callable[[], None]
    ) -> None:
        self._config = config
        self._ping = ping
        self._dead = dead
        self._loop = asyncio.get_running_loop()
        self._missed = 0
        self.heard = True
        """Something was heard since the last look; set it with every message that arrives."""
        self.said = True
        """Something was said since the last look; set it with every message that is sent."""
        self._timer = self._schedule()

    def _schedule(self) -> asyncio.TimerHandle:
        # Chance spreads the pings of many bonds; it protects nothing.
        jitter = random.random() * self._config.heartbeat_jitter  # noqa: S311
        return self._loop.call_later(self._config.heartbeat_interval - jitter, self._look)

    def _look(self) -> None:
        self._missed = 0 if self.heard else self._missed + 1
        if self._missed >= self._config.max_missed_heartbeats:
            self._dead()
            return
        if not self.said:
            self._ping()
        self.heard = self.said = False
        self._timer = self._schedule()

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()
