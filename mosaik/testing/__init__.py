"""What a test of an application on mosaik needs: real processes to kill, and closed stores to read."""

from __future__ import annotations

from mosaik.testing.agreement import ReplicasDiffer, assert_replicas_agree
from mosaik.testing.cluster import Cluster, ClusterNode
from mosaik.testing.hosts import Host, Hosts
from mosaik.testing.instruments import NodeDisk
from mosaik.testing.lost import AcknowledgedLost, assert_nothing_lost
from mosaik.testing.offline import read_log
from mosaik.testing.ports import free_ports
from mosaik.testing.process import Event, NotRunning, Process, ProcessEnded, RequestFailed
from mosaik.testing.recorder import Acknowledged, Recorder

__all__ = [
    "Acknowledged",
    "AcknowledgedLost",
    "Cluster",
    "ClusterNode",
    "Event",
    "Host",
    "Hosts",
    "NodeDisk",
    "NotRunning",
    "Process",
    "ProcessEnded",
    "Recorder",
    "ReplicasDiffer",
    "RequestFailed",
    "assert_nothing_lost",
    "assert_replicas_agree",
    "free_ports",
    "read_log",
]
