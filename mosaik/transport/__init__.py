"""How nodes reach each other: identities, links, and the transports that make them."""

from __future__ import annotations

from mosaik.transport.contract import MAX_FRAME, CloseReason, Link, Transport
from mosaik.transport.identity import Identity
from mosaik.transport.memory import MemoryHub, MemoryTransport
from mosaik.transport.tls import TlsTransport

__all__ = [
    "MAX_FRAME",
    "CloseReason",
    "Identity",
    "Link",
    "MemoryHub",
    "MemoryTransport",
    "TlsTransport",
    "Transport",
]
