"""How a life ends: lawfully, in one atomic write, and never as the same replica again.

A life may be ended only when nothing that this replica ever said can be missed: it gives up an attempt
that it has not accepted or that is provably dead, its history was dissolved, or it joined one and never
acknowledged anything (``docs/membership.md``).
"""

from __future__ import annotations

from mosaik.consensus.core import Core
from mosaik.consensus.effects import ReadReady, Refused
from mosaik.consensus.landmarks import Landmarks
from mosaik.primitives.durable import DISSOLVED_KEPT, Anchor
from mosaik.primitives.membership import Replica

__all__ = ["end_life", "retire"]


def end_life(core: Core, into: bytes | None = None) -> None:
    """Erases this store and begins its next life, pristine.

    Args:
        into: where the history went, when it was dissolved.
    """
    if into is not None and core.history:
        core.dissolved[core.history] = into
        while len(core.dissolved) > DISSOLVED_KEPT:
            del core.dissolved[next(iter(core.dissolved))]
    _erase(core, Replica(core.me.peer, core.me.store, core.me.life + 1))


def retire(core: Core) -> None:
    """Becomes a new replica with a new store id: this store vouches for nothing it said before.

    Not the next life of the old one, which others would read as a proof that its attempt never founded.
    """
    _erase(core, Replica(core.me.peer, core.rng.randbytes(16), 0))


def _erase(core: Core, reborn: Replica) -> None:
    core.become_follower(None)
    core.me = reborn
    core.term = 0
    core.voted_for = None
    core.history = b""
    core.attempt = None
    core.marks = Landmarks()
    core.floors = {}
    core.suspect = 0
    core.log.reset(Anchor())
    core.commit = 0
    core.accepts = set()
    core.joiners = {}
    core.removing = {}
    core.heard_append = False
    core.lost = False
    core.divergent = frozenset()
    core.dissolve_fetch = 0
    core.eligible_since = None
    # A random addition keeps those who gave up together from proposing together.
    core.quiet_until = core.now + core.rng.random() * core.parameters.election_timeout
    core.election_due = float("inf")
    core.effects.restart = True
    # A read that was confirmed in this very step would be answered from a history to come.
    core.effects.answers = [
        Refused(answer.token, None, "the history ended")
        if isinstance(answer, ReadReady)
        else answer
        for answer in core.effects.answers
    ]
    core.mark_dirty()
    core.announce()
