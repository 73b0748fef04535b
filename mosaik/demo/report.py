"""What a run of the demo came to."""

from __future__ import annotations

from statistics import median

import msgspec

__all__ = ["Report"]


class Report(msgspec.Struct, kw_only=True):
    """The result of one run.

    Attributes:
        backend: where the nodes kept their logs.
        nodes: how many.
        kills: how often a leader was killed.
        acknowledged: commands that the group said were done.
        unknown: commands of which it could not say whether they were.
        unknown_found: how many of those were done after all.
        resent: commands that certainly were not done, and were sent again.
        lost: acknowledged commands that are missing, changed or doubled anywhere.
        generations: how often the data was replicated.
        entries: the length of the log.
        term: the last term.
        failover: seconds from each kill to the next acknowledgement.
        seconds: how long it all took.
        findings: whatever is wrong, in words.
    """

    backend: str
    nodes: int
    kills: int = 0
    acknowledged: int = 0
    unknown: int = 0
    unknown_found: int = 0
    resent: int = 0
    lost: int = 0
    generations: int = 0
    entries: int = 0
    term: int = 0
    failover: list[float] = []
    seconds: float = 0.0
    findings: list[str] = []

    @property
    def good(self) -> bool:
        """Nothing is lost and nothing else is wrong."""
        return not self.lost and not self.findings

    def details(self) -> str:
        """Some lines for people."""
        failover = (
            f"from a kill to the next acknowledgement: median {median(self.failover):.3f} s, "
            f"longest {max(self.failover):.3f} s\n"
            if self.failover
            else ""
        )
        return (
            f"{self.nodes} nodes, {self.generations} generations, {self.entries} log entries, "
            f"term {self.term}, {self.seconds:.1f} s\n{failover}"
            f"certainly not done and sent again: {self.resent}; "
            f"unknown: {self.unknown}, of which {self.unknown_found} were done"
        )

    def line(self) -> str:
        """The last line of the demo."""
        return (
            f"acknowledged={self.acknowledged} lost={self.lost} unknown={self.unknown} "
            f"kills={self.kills} backend={self.backend}"
        )
