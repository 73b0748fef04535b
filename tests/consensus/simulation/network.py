"""Links between nodes that lose, delay, double and reorder what they carry, and that break."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["PERFECT", "LinkQuality", "SimNetwork"]


@dataclass(frozen=True)
class LinkQuality:
    """How bad the links are.

    Attributes:
        loss: share of messages that vanish.
        duplicate: share that arrive twice.
        slow: share that take up to ``slow_seconds``, and so are overtaken by later ones.
        seconds: range of the ordinary delay.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 1.0
    seconds: tuple[float, float] = (0.001, 0.01)


PERFECT = LinkQuality()


class SimNetwork:
    """Decides what becomes of each message. Cuts are directed: one may speak and not hear.

    Attributes:
        cut: ``(from, to)`` pairs over which nothing passes, although both ends may believe it does.
    """

    def __init__(self, quality: LinkQuality, chance: random.Random) -> None:
        self.quality = quality
        self.chance = chance
        self.cut: set[tuple[bytes, bytes]] = set()

    def heal(self) -> None:
        """Perfect links from now on."""
        self.quality = PERFECT
        self.cut.clear()

    def whole(self, a: bytes, b: bytes) -> bool:
        """Whether a link between the two can be established."""
        return (a, b) not in self.cut and (b, a) not in self.cut

    def isolate(self, inside: set[bytes], outside: set[bytes]) -> list[tuple[bytes, bytes]]:
        """Cuts both ways between two groups; returns the cuts, for mending them."""
        pairs = [(a, b) for a in sorted(inside) for b in sorted(outside)]
        cut = pairs + [(b, a) for a, b in pairs]
        self.cut.update(cut)
        return cut

    def mend(self, cut: list[tuple[bytes, bytes]]) -> None:
        """Undoes cuts."""
        self.cut.difference_update(cut)

    def delays(self, sender: bytes, receiver: bytes) -> tuple[float, ...]:
        """After how many seconds each copy of a message arrives; empty when it is lost."""
        if (sender, receiver) in self.cut:
            return ()
        quality, roll = self.quality, self.chance.random
        low, high = quality.seconds
        if quality is PERFECT:
            return (low + (high - low) * roll(),)
        if roll() < quality.loss:
            return ()
        delay = low + (high - low) * roll()
        if roll() < quality.slow:
            delay += roll() * quality.slow_seconds
        if roll() < quality.duplicate:
            return (delay, delay + roll() * quality.slow_seconds)
        return (delay,)
