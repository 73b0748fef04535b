"""What discovery can be told."""

from __future__ import annotations

import msgspec

from mosaik.primitives.errors import ConfigError

__all__ = ["DiscoveryConfig"]


class DiscoveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times of discovery. Times are seconds.

    Attributes:
        announce_interval: how often a node renews its entry.
        announce_jitter: by which fraction, more or less, each interval differs.
        purge_after: an entry that was not renewed for so long is forgotten. At least twice the
            longest interval, or living nodes are forgotten.
        max_time_drift: how far ahead of our clock an entry may be dated.
        events_backlog: events that wait for a slow reader of ``events()`` before the oldest are lost.
        neighbours: how many peers a node keeps a discovery link with, if there are as many.
        max_neighbours: with so many it accepts no link more. What it dials itself comes on top:
            ``neighbours`` and the bootstrap addresses at most.
        max_peers: how many peers' entries it keeps.
        max_bytes: how many bytes of entries it keeps.
        dial_timeout: for connecting to a neighbour, and for its catalog.
        first_backoff: the pause after the first failure to reach an address; it doubles.
        max_backoff: the longest such pause.

    Raises:
        ConfigError: a value is out of range.
    """

    announce_interval: float = 45.0
    announce_jitter: float = 0.5
    purge_after: float = 300.0
    max_time_drift: float = 50.0
    events_backlog: int = 100
    neighbours: int = 8
    max_neighbours: int = 32
    max_peers: int = 4096
    max_bytes: int = 16 * 1024 * 1024
    dial_timeout: float = 5.0
    first_backoff: float = 0.1
    max_backoff: float = 15.0

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            if field.name != "announce_jitter" and not getattr(self, field.name) > 0:
                raise ConfigError(f"discovery: {field.name} must be above 0")
        if not 0 <= self.announce_jitter < 1:
            raise ConfigError("discovery: announce_jitter is a fraction from 0 to below 1")
        longest = self.announce_interval * (1 + self.announce_jitter)
        if self.purge_after < 2 * longest:
            raise ConfigError(
                f"discovery: purge_after={self.purge_after:g} would forget living nodes; it must be "
                f"at least {2 * longest:g}, twice the longest announce interval"
            )
        if self.neighbours > self.max_neighbours:
            raise ConfigError("discovery: neighbours exceeds max_neighbours")
