"""Whether what was acknowledged is where it was said to be, in every replica's log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mosaik.primitives.entry import Entry, EntryKind
from mosaik.testing.recorder import Acknowledged

__all__ = ["AcknowledgedLost", "assert_nothing_lost"]

#: So many of those that are missing are written out.
_SHOWN: Final = 3


class AcknowledgedLost(AssertionError):
    """Something that was acknowledged is not there, or is not what it was."""


def assert_nothing_lost(
    acknowledged: Iterable[Acknowledged], logs: Mapping[str, Sequence[Entry[Any]]]
) -> None:
    """Requires that each acknowledged command stands in every log at the index that was told, as it was.

    Args:
        acknowledged: what callers were told, as `Recorder.acknowledged` has it.
        logs: each replica's, by its name, as `read_log` reads them with the machine's ``command_type``. A
            replica that has not caught up lacks what it has not got: await `ClusterNode.reaches` first.

    Raises:
        AcknowledgedLost: one is missing, or is another command; or two were told the same index; or the logs
            of two replicas differ. ValueError: there is nothing to compare.
    """
    told = list(acknowledged)
    if not told or not logs:
        raise ValueError("nothing was acknowledged, or no log was read: this would show nothing")
    wrong = list(_told_twice(told))
    for name, log in logs.items():
        wrong += _missing(name, told, log)
    wrong += _parted(logs)
    if wrong:
        raise AcknowledgedLost("\n".join(wrong))


def _told_twice(told: Sequence[Acknowledged]) -> Iterable[str]:
    seen: dict[int, Any] = {}
    for each in told:
        if each.index in seen:
            yield f"two callers were told index {each.index}: {seen[each.index]} and {each.command}"
        seen[each.index] = each.command


def _missing(name: str, told: Sequence[Acknowledged], log: Sequence[Entry[Any]]) -> Iterable[str]:
    held = {entry.index: entry for entry in log}
    missing = [each for each in told if not _holds(held.get(each.index), each.command)]
    if missing:
        yield f"{name} lacks {len(missing)} of {len(told)} acknowledged commands, such as"
    for each in missing[:_SHOWN]:
        there = held.get(each.index)
        found = "nothing" if there is None else _words(there)
        yield f"  {each.index}: {each.command}; found: {found}"


def _holds(entry: Entry[Any] | None, command: Any) -> bool:
    return entry is not None and entry.kind is EntryKind.COMMAND and entry.command == command


def _parted(logs: Mapping[str, Sequence[Entry[Any]]]) -> Iterable[str]:
    (first, one), *others = logs.items()
    for name, other in others:
        for mine, theirs in zip(one, other, strict=False):
            if mine.sealed != theirs.sealed:
                yield (
                    f"{first} and {name} part at entry {mine.index}: {_words(mine)} and {_words(theirs)}"
                )
                break


def _words(entry: Entry[Any]) -> str:
    return str(entry.command if entry.kind is EntryKind.COMMAND else entry)
