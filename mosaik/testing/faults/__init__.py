"""Faults for tests of applications: disks that fail, fill up or are slow, and two stores compared.

Each stands in front of a store of any backend, and is named by its URL: see ``docs/testing.md``. A wrapper of
your own is a `Wrapper` around a `WrappedEnvironment` that overrides `WrappedEnvironment.write`, registered
as an entry point like any backend.
"""

from __future__ import annotations

from mosaik.testing.faults.disks import (
    FaultyEnvironment,
    FaultyOptions,
    FullEnvironment,
    FullOptions,
    SlowEnvironment,
    SlowOptions,
    faulty,
    full,
    slow,
)
from mosaik.testing.faults.switched import (
    Ordered,
    SwitchedEnvironment,
    SwitchedOptions,
    order,
    switched,
)
from mosaik.testing.faults.tee import Difference, TeeEnvironment, TeeOptions, tee
from mosaik.testing.faults.wrapped import WrappedEnvironment, WrappedStorage, Wrapper

__all__ = [
    "Difference",
    "FaultyEnvironment",
    "FaultyOptions",
    "FullEnvironment",
    "FullOptions",
    "Ordered",
    "SlowEnvironment",
    "SlowOptions",
    "SwitchedEnvironment",
    "SwitchedOptions",
    "TeeEnvironment",
    "TeeOptions",
    "WrappedEnvironment",
    "WrappedStorage",
    "Wrapper",
    "faulty",
    "full",
    "order",
    "slow",
    "switched",
    "tee",
]
