"""What makes the wires and disks of real nodes fail when a test wants them to."""

from __future__ import annotations

import socket
from pathlib import Path

from msgspec.structs import replace

from mosaik.primitives.errors import ConfigError
from mosaik.testing.faults.switched import Ordered, failed, order, ordered

__all__ = ["NodeDisk", "require_sources", "source_of"]


class NodeDisk:
    """What a node's disk is told to do; it holds from the next commit on, also across restarts. A disk may be
    told several things, and does all of them.

    Args:
        data_dir: the node's.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    @property
    def failed(self) -> int:
        """How many syncs have failed as they were told, so that a test can say that one did."""
        return failed(self._data_dir)

    def fail_sync(self, times: int = 1) -> None:
        """The next commits are written, and their syncs fail. The node acknowledges nothing that was in one,
        and opens its store again; after three in a row its group ends, and so does its process."""
        told = ordered(self._data_dir)
        until = max(told.fail_until, self.failed) + times
        order(self._data_dir, replace(told, fail_until=until))

    def fill(self) -> None:
        """Nothing more fits, until `heal`."""
        order(self._data_dir, replace(ordered(self._data_dir), full=True))

    def slow(self, seconds: float) -> None:
        """Each commit takes so much longer, until `heal`."""
        order(self._data_dir, replace(ordered(self._data_dir), delay=seconds))

    def heal(self) -> None:
        """The disk is well again."""
        order(self._data_dir, Ordered())


def source_of(number: int) -> str:
    """Where the node of that number dials from."""
    return f"127.0.1.{number}"


def require_sources(count: int) -> None:
    """Whether so many nodes can each dial from an address of its own.

    Raises:
        ConfigError: they cannot.
    """
    for number in range(1, count + 1):
        with socket.socket() as tried:
            try:
                tried.bind((source_of(number), 0))
            except OSError as error:
                raise ConfigError(
                    f"an instrumented cluster needs the address {source_of(number)}, which this system does "
                    f"not have ({error}); add it: `sudo ifconfig lo0 alias {source_of(number)}` on macOS"
                ) from error
