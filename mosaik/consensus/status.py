"""What a replica says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaik.consensus.messages import ClientClass, Phase, Status
from mosaik.primitives.cursor import Cursor

if TYPE_CHECKING:
    from mosaik.consensus.core import Core

__all__ = ["status_of"]


def status_of(core: Core, *, asks: int = 0, echo: int = 0) -> Status:
    """A replica's status now.

    Args:
        asks: a nonce that the receiver shall send back in its own status.
        echo: such a nonce.
    """
    last = core.log.last_cursor
    if core.suspect:
        # The damaged tail was acknowledged once; claiming less would look like a rollback.
        last = Cursor(last.term, core.suspect)
    return Status(
        phase=_phase(core),
        term=core.term,
        last=last,
        commit=core.commit,
        founded=core.founded,
        has_client=core.client_class is ClientClass.SOME,
        leader=core.leader,
        observer=core.parameters.observer,
        volatile=core.parameters.volatile,
        reluctance=core.parameters.reluctance,
        member=core.configuration.find(core.me) is not None,
        attempt=core.attempt if not core.founded else None,
        dissolved=tuple(core.dissolved.items()),
        lost=core.lost,
        asks=asks,
        echo=echo,
    )


def _phase(core: Core) -> Phase:
    if core.pristine:
        return Phase.PRISTINE
    if core.attempt is not None and not core.founded:
        return Phase.ATTEMPT
    return Phase.MEMBER
