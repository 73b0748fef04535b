"""Who else is there: signed entries of peers, gossiped between nodes of one network."""

from __future__ import annotations

from mosaik.discovery.catalog import Catalog
from mosaik.discovery.config import DiscoveryConfig
from mosaik.discovery.discovery import Discovery
from mosaik.discovery.events import Event, Events, PeerDeparted, PeerDiscovered, PeerUpdated

__all__ = [
    "Catalog",
    "Discovery",
    "DiscoveryConfig",
    "Event",
    "Events",
    "PeerDeparted",
    "PeerDiscovered",
    "PeerUpdated",
]
