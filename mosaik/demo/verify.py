"""After the last kill: does every node hold what was acknowledged, once, and all of them the same?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from mosaik.demo.load import Ledger
from mosaik.machines import Map
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.testing.cluster import Cluster, ClusterNode
from mosaik.testing.offline import read_log

__all__ = ["Findings", "check_answers", "check_log", "check_logs_equal", "check_state", "verify"]

#: Replaying a long log takes a while. Seconds.
REPLAY: Final = 120.0
#: So many findings of one kind are written out; the rest is counted.
_SHOWN: Final = 3


class Findings:
    """What is wrong.

    Attributes:
        lost: keys of acknowledged commands that are missing, changed or doubled somewhere.
        messages: in words.
    """

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.messages: list[str] = []

    def add(self, where: str, what: str, keys: Iterable[str], *, lost: bool = False) -> None:
        """Notes what is wrong with some commands, if there are any."""
        named = sorted(keys)
        if not named:
            return
        if lost:
            self.lost.update(named)
        shown = ", ".join(named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
        self.messages.append(f"{where}: {len(named)} {what}: {shown}")


async def verify(cluster: Cluster, ledger: Ledger) -> tuple[Findings, list[Entry[Any]]]:
    """Starts every node cold, reads through each, then reads the stores themselves.

    Args:
        cluster: its nodes do not run.
        ledger: what was sent, and what became of it.

    Returns:
        What is wrong, and the log.
    """
    findings = Findings()
    check_answers(findings, ledger)
    await cluster.start()
    await cluster.online()
    last = max(ledger.acknowledged.values(), default=0)
    for node in cluster.nodes:
        await node.reaches(last, timeout=REPLAY)
        check_state(findings, node.name, await node.query(Map.Items(), timeout=REPLAY), ledger)
    # Killed and not stopped: a leader that is stopped hands over first, which lengthens the log.
    await cluster.kill()
    logs = await asyncio.gather(*(asyncio.to_thread(_read, node) for node in cluster.nodes))
    for node, log in zip(cluster.nodes, logs, strict=True):
        check_log(findings, node.name, log, ledger)
    check_logs_equal(findings, [node.name for node in cluster.nodes], logs)
    return findings, max(logs, key=len)


def _read(node: ClusterNode) -> list[Entry[Any]]:
    return read_log(node.storage, data_dir=node.data_dir, command_type=Map(str, str).command_type)


def check_answers(findings: Findings, ledger: Ledger) -> None:
    """What was answered while it ran: no command found that it had been there before."""
    findings.add("answers", "commands that were applied twice", ledger.twice, lost=True)


def check_state(findings: Findings, where: str, state: Mapping[str, str], ledger: Ledger) -> None:
    """A strong read: what was acknowledged is there, and nothing that was not sent."""
    wrong = {key for key in ledger.acknowledged if state.get(key) != ledger.sent[key]}
    findings.add(
        f"{where}, strong read", "acknowledged commands missing or changed", wrong, lost=True
    )
    known = ledger.acknowledged.keys() | ledger.unknown
    findings.add(f"{where}, strong read", "values that nobody sent", state.keys() - known)
    changed = {key for key in ledger.unknown & state.keys() if state[key] != ledger.sent[key]}
    findings.add(f"{where}, strong read", "changed values", changed)


def check_log(findings: Findings, where: str, log: Sequence[Entry[Any]], ledger: Ledger) -> None:
    """A store: each acknowledged command once and at the index that was told, an unknown one at most once."""
    commands = [entry for entry in log if entry.kind is EntryKind.COMMAND]
    times = Counter(entry.command.key for entry in commands)
    at = {entry.command.key: entry.index for entry in commands}
    missing = {key for key in ledger.acknowledged if times[key] != 1}
    findings.add(
        f"{where}, log", "acknowledged commands not there exactly once", missing, lost=True
    )
    moved = {key for key, index in ledger.acknowledged.items() if key in at and at[key] != index}
    findings.add(f"{where}, log", "acknowledged commands at another index", moved, lost=True)
    doubled = {key for key in ledger.unknown if times[key] > 1}
    findings.add(f"{where}, log", "unknown commands more than once", doubled)
    findings.add(f"{where}, log", "commands that nobody sent", at.keys() - ledger.sent.keys())


def check_logs_equal(
    findings: Findings, names: Sequence[str], logs: Sequence[Sequence[Entry[Any]]]
) -> None:
    """All logs are the same, entry by entry."""
    for index, entries in enumerate(zip_longest(*logs), 1):
        if len({entry.sealed if entry else b"" for entry in entries}) > 1:
            held = ", ".join(f"{name}: {entry}" for name, entry in zip(names, entries, strict=True))
            findings.messages.append(f"the logs differ from entry {index} on: {held}")
            return
