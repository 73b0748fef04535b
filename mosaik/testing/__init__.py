"""What a test of an application on mosaik needs: real processes to kill, and closed stores to read."""

from __future__ import annotations

from mosaik.testing.cluster import Cluster, ClusterNode
from mosaik.testing.offline import read_log
from mosaik.testing.ports import free_ports
from mosaik.testing.process import Event, Process, ProcessEnded, RequestFailed

__all__ = [
    "Cluster",
    "ClusterNode",
    "Event",
    "Process",
    "ProcessEnded",
    "RequestFailed",
    "free_ports",
    "read_log",
]
