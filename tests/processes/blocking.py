"""A planted bug: a state machine that blocks the event loop."""

from __future__ import annotations

import time
from typing import Any

from mosaik.machines import ApplyContext, Map

__all__ = ["BLOCKED", "blocking_map"]

BLOCKED = 0.05


class BlockingMap(Map[str, str]):
    def apply(self, command: Any, context: ApplyContext) -> Any:
        time.sleep(BLOCKED)
        return super().apply(command, context)


def blocking_map() -> BlockingMap:
    return BlockingMap(str, str)
