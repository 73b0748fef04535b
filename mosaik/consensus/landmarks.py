"""The few entries of a log that decide what the log means, found without reading it.

A configuration, ``FOUNDED``, the first command and ``DISSOLVE`` take effect when they are appended and
cease when they are truncated. Their indices are kept in the hard state, so that opening a log of any
length reads two entries and scans none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaik.primitives.durable import HardState
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.errors import CodecError, InternalError
from mosaik.primitives.membership import Configuration, configuration_codec

__all__ = ["Landmarks"]


class Landmarks:
    """Where they stand; 0 means nowhere.

    Attributes:
        configs: the two newest durable configurations, oldest first, and any that are not durable yet.
        founded: index of the ``FOUNDED`` entry.
        first_command: index of the first ``COMMAND`` entry.
        dissolve: index of the ``DISSOLVE`` entry.
    """

    def __init__(self) -> None:
        self.configs: list[tuple[int, Configuration]] = []
        self.founded = 0
        self.first_command = 0
        self.dissolve = 0

    @classmethod
    def recover(
        cls, hard: HardState, configurations: Sequence[tuple[int, Configuration]], end: int
    ) -> Landmarks:
        """As a store of which ``end`` is the last good entry remembers them.

        What stands in a damaged tail is not in force until a leader supplies it again.
        """
        marks = cls()
        marks.configs = sorted(configurations, key=lambda pair: pair[0])
        marks.founded = hard.founded if hard.founded <= end else 0
        marks.first_command = hard.first_command if hard.first_command <= end else 0
        marks.dissolve = hard.dissolve if hard.dissolve <= end else 0
        return marks

    @property
    def configuration(self) -> Configuration:
        return self.configs[-1][1] if self.configs else Configuration()

    @property
    def config_index(self) -> int:
        return self.configs[-1][0] if self.configs else 0

    @property
    def newest(self) -> int:
        """The index of the newest of them."""
        return max(self.config_index, self.founded, self.first_command, self.dissolve)

    def note(self, entry: Entry[Any], stable: int) -> bool:
        """Sees an entry that was appended; tells whether it is one of these."""
        if entry.kind is EntryKind.COMMAND:
            if self.first_command:
                return False
            self.first_command = entry.index
        elif entry.kind is EntryKind.CONFIG:
            durable = [pair for pair in self.configs if pair[0] <= stable][-2:]
            others = [pair for pair in self.configs if pair[0] > stable]
            self.configs = [*durable, *others, (entry.index, _decode(entry))]
        elif entry.kind is EntryKind.FOUNDED:
            self.founded = entry.index
        elif entry.kind is EntryKind.DISSOLVE:
            self.dissolve = entry.index
        else:
            return False
        return True

    def truncate(self, at: int) -> None:
        """Everything from ``at`` on is gone."""
        while len(self.configs) > 1 and self.configs[-1][0] >= at:
            self.configs.pop()
        self.founded = self.founded if self.founded < at else 0
        self.first_command = self.first_command if self.first_command < at else 0
        self.dissolve = self.dissolve if self.dissolve < at else 0

    def durable_configs(self, written: int) -> tuple[int, ...]:
        """The indices of the two newest configurations among the entries up to ``written``."""
        return tuple([index for index, _ in self.configs if index <= written][-2:])


def _decode(entry: Entry[Any]) -> Configuration:
    try:
        return configuration_codec.decode(entry.payload)
    except CodecError as error:
        raise InternalError(f"{entry} was sealed but holds no configuration") from error
