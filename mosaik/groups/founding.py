"""What an operator should hear while a group has no history yet: before it matters, not after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from typing import Final

from mosaik.groups.config import GroupConfig

__all__ = ["Founding"]

log = logging.getLogger("mosaik.groups")

#: Founders that have not met after so many times the bootstrap delay are worth a line.
_PATIENCE: Final = 3.0


class Founding:
    """Warns of a durable history that is begun alone, and of founders that do not meet.

    Args:
        bonds: the group's bonds now.
        founded: whether this node is bound to a history by now.
    """

    def __init__(self, config: GroupConfig, bonds: Sized, founded: Callable[[], bool]) -> None:
        self._config = config
        self._bonds = bonds
        self._founded = founded
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, *, volatile: bool) -> None:
        """The group starts on a store that knows no history."""
        consensus = self._config.consensus
        if consensus.bootstrap_expect > 1:
            delay = _PATIENCE * consensus.bootstrap_delay + consensus.election_timeout
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._still_waiting, delay)
        elif not volatile:
            log.warning(
                "%s: bootstrap_expect is 1, so this node begins a durable history alone if it meets "
                "nobody. Nodes that do so apart cannot be merged once they hold commands; where a group "
                "has several nodes, set bootstrap_expect to their number",
                self._config,
            )

    def _still_waiting(self, delay: float) -> None:
        if not self._founded():
            log.warning(
                "%s: no history after %.0f s: %d of the %d nodes that bootstrap_expect asks for have met; "
                "the others may not run, have other bootstrap addresses, another key or other parameters",
                self._config,
                delay,
                len(self._bonds) + 1,
                self._config.consensus.bootstrap_expect,
            )

    def end(self) -> None:
        """The group ends."""
        if self._timer is not None:
            self._timer.cancel()
