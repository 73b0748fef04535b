"""``mosaik log``: the logs in the stores of nodes that are stopped."""

from __future__ import annotations

from typing import Final

import click

from mosaik.cli.lazy import Lazy, LazyGroup

__all__ = ["log"]

_COMMANDS: Final = {
    "inspect": Lazy("mosaik.cli.log_inspect:inspect", "Show whose logs a store holds."),
    "dump": Lazy("mosaik.cli.log_dump:dump", "Print entries, one a line."),
    "verify": Lazy("mosaik.cli.log_verify:verify", "Read everything; name every bad entry."),
    "copy": Lazy("mosaik.cli.log_copy:copy", "Move a store to another place or backend."),
    "backup": Lazy("mosaik.cli.log_backup:backup", "Write a store's logs into one file."),
    "restore": Lazy("mosaik.cli.log_restore:restore", "Make a store of a backup."),
    "reset": Lazy("mosaik.cli.log_reset:reset", "Give logs up; the node begins anew."),
    "rebind": Lazy("mosaik.cli.log_rebind:rebind", "Carry a log over to changed parameters."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def log() -> None:
    """Look into closed stores, copy, back up and restore them."""
