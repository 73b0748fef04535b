"""State machines: what a group replicates. Write your own, or take one of these."""

from mosaik.machines.counter import Counter
from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.machines.map import Map
from mosaik.machines.noop import NoOp

__all__ = ["ApplyContext", "Counter", "Map", "NoOp", "StateMachine"]
