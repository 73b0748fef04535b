"""The specification of `mosaik.machines.Map`, one key at a time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from mosaik.machines import Map
from mosaik.testing.linearizability.history import UNKNOWN
from mosaik.testing.linearizability.model import REFUSED

__all__ = ["MapEntry"]


class MapEntry:
    """What is under one key of a `Map`; inputs are the machine's own commands and queries, outputs what it
    answers. Commands on all keys at once are not for it."""

    def initial(self, key: Hashable) -> Any:
        del key

    def step(self, state: Any, input: Any, output: Any) -> Any:
        """See `Model.step`; a state is the value, None without one."""
        match input:
            case Map.Get():
                answer, after = state, state
            case Map.Insert():
                answer, after = state, input.value
            case Map.Remove():
                answer, after = state, None
            case Map.Exchange():
                answer = state == input.expected
                after = input.new if answer else state
            case _:
                raise TypeError(f"{input!r} is not about one key of a Map")
        return after if output is UNKNOWN or output == answer else REFUSED
