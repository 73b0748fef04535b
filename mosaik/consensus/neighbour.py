"""What a replica knows of a peer that it can speak to."""

from __future__ import annotations

import msgspec

from mosaik.consensus.messages import Status
from mosaik.primitives.membership import Replica

__all__ = ["Neighbour"]


class Neighbour(msgspec.Struct):
    """A bonded peer.

    Attributes:
        status: what it last said of itself; None until it has.
        replica: who said it.
        history: the history it named.
        proposed: when our genesis proposal was last sent to it.
        doubtful: its store shows less than it once acknowledged.
        echo: the last nonce of ours that its status answered.
    """

    status: Status | None = None
    replica: Replica | None = None
    history: bytes = b""
    proposed: float = float("-inf")
    doubtful: bool = False
    echo: int = 0
