"""``mosaik storage``: backends, and the stores that they keep."""

from __future__ import annotations

from typing import Final

import click

from mosaik.cli.lazy import Lazy, LazyGroup

__all__ = ["storage"]

_COMMANDS: Final = {
    "list": Lazy("mosaik.cli.storage_list:list_", "Show which backends there are."),
    "check": Lazy("mosaik.cli.check:check", "Try a backend on every rule of the contract."),
    "bench": Lazy("mosaik.cli.storage_bench:bench", "Measure this disk with each backend."),
    "upgrade": Lazy("mosaik.cli.storage_upgrade:upgrade", "Bring a store to the newest format."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def storage() -> None:
    """Storage backends."""
