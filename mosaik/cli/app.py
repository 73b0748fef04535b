"""The command line's root: commands load when they are called, errors become one line.

``mosaik --help`` has to be quick, so a command's module is imported only when it runs; the root keeps
each one's summary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

import click

import mosaik
from mosaik.primitives.errors import MosaikError
from mosaik.primitives.nearest import did_you_mean

__all__ = ["FAILED", "INTERRUPTED", "cli", "main"]

#: Exit statuses: something went wrong (a usage error is click's 2), and interrupted by the keyboard.
FAILED: Final = 1
INTERRUPTED: Final = 130


class _Lazy(NamedTuple):
    """Where a command lives, and what it says of itself."""

    module: str
    summary: str


_COMMANDS: Final = {
    "demo": _Lazy(
        "mosaik.cli.demo", "Kill the leader of a real group again and again; lose nothing."
    ),
    "key": _Lazy("mosaik.cli.key", "Make group keys."),
    "log": _Lazy("mosaik.cli.log", "Carry a log over to changed parameters."),
    "node": _Lazy("mosaik.cli.node", "Run one node of a group."),
    "storage": _Lazy("mosaik.cli.storage", "Storage backends."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name].module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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
