"""The command line's root: commands load when they are called, errors become one line.

``mosaik --help`` has to be quick, so a command's module is imported only when it runs; the root keeps
each one's summary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

import mosaik
from mosaik.cli.lazy import Lazy, LazyGroup
from mosaik.primitives.errors import MosaikError

__all__ = ["FAILED", "INTERRUPTED", "cli", "main"]

#: Exit statuses: something went wrong (a usage error is click's 2), and interrupted by the keyboard.
FAILED: Final = 1
INTERRUPTED: Final = 130


_COMMANDS: Final = {
    "demo": Lazy(
        "mosaik.cli.demo:demo", "Kill the leader of a real group again and again; lose nothing."
    ),
    "key": Lazy("mosaik.cli.key:key", "Make group keys."),
    "log": Lazy("mosaik.cli.log:log", "Look into closed stores, copy, back up and restore them."),
    "node": Lazy("mosaik.cli.node:node", "Run one node of a group, or ask one that runs."),
    "recover": Lazy("mosaik.cli.recover:recover", "Go on after a majority is lost for good."),
    "simulate": Lazy(
        "mosaik.cli.simulate:simulate",
        "Try whole groups on virtual time, under faults, from seeds.",
    ),
    "storage": Lazy("mosaik.cli.storage:storage", "Storage backends."),
}


@click.group(
    cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(mosaik.__version__, prog_name="mosaik")
def cli() -> None:
    """Consensus groups with durable logs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and answers its exit status."""
    try:
        status = cli.main(arguments, prog_name="mosaik", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MosaikError as error:
        click.echo(f"mosaik: {_one_line(error)}", err=True)
        return FAILED
    return status if isinstance(status, int) else 0


def _one_line(error: BaseException) -> str:
    """The error and what caused it, unless the message says it already."""
    text = str(error) or type(error).__name__
    cause = error.__cause__
    while cause is not None:
        if str(cause) and str(cause) not in text:
            text += f" ({cause})"
        cause = cause.__cause__
    return " ".join(text.split())
