"""The machine that does nothing: for groups that only elect a leader or only keep an order."""

from __future__ import annotations

from typing import Any, Final

from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.primitives.digest import Digest

__all__ = ["NoOp"]

_SIGNATURE: Final = Digest("mosaik.machines.NoOp")


class NoOp(StateMachine[None, None, None]):
    """Takes ``None`` as its only command and query, and answers ``None``."""

    @property
    def command_type(self) -> Any:
        return None

    @property
    def query_type(self) -> Any:
        return None

    @property
    def result_type(self) -> Any:
        return None

    def signature(self) -> Digest:
        return _SIGNATURE

    def apply(self, command: None, context: ApplyContext) -> None:
        """Nothing happens, at the command's place in the order."""

    def query(self, query: None) -> None:
        """There is nothing to ask; a strong query still waits for all that went before it."""

    def reset(self) -> None:
        """There is nothing to forget."""
