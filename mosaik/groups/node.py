"""What a group needs of the node it runs on, and no more: tests put something smaller in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.peer import SignedPeerEntry
from mosaik.transport.contract import Link

__all__ = ["Node"]


class Node(Protocol):
    """One node, as its groups see it."""

    @property
    def peer(self) -> PeerId: ...

    @property
    def network_id(self) -> Digest: ...

    @property
    def durable(self) -> bool:
        """Its identity outlives the process, so it may own a durable store."""
        ...

    @property
    def data_dir(self) -> Path | None: ...

    @property
    def storage_url(self) -> str | None:
        """The store that the configuration names."""
        ...

    @property
    def consensus(self) -> Mapping[str, Any]:
        """The parameters of groups that the configuration sets, by name."""
        ...

    def entry(self) -> SignedPeerEntry:
        """The node's own entry."""
        ...

    def members(self, group: Digest) -> Iterable[SignedPeerEntry]:
        """Entries of other nodes that list this group."""
        ...

    def feed(self, entry: SignedPeerEntry) -> None:
        """Takes what was learned of another node."""
        ...

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Calls ``changed`` whenever any entry changes; returns what ends that."""
        ...

    def add_group(self, group: Digest) -> None: ...

    def remove_group(self, group: Digest) -> None: ...

    async def dial(self, address: str, peer: PeerId, timeout: float) -> Link: ...

    def accept(self, protocol: str, handler: Callable[[Link], Any]) -> None: ...
