"""Runs the tests in parts, one after the other, and says how long each took against its budget.

``python tests/run_parts.py`` runs all; ``python tests/run_parts.py unit storage`` some.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

__all__ = ["PARTS", "Part", "files_of"]

ROOT = Path(__file__).resolve().parent.parent


class Part(NamedTuple):
    """One part of the suite.

    Attributes:
        name: how it is named on the command line.
        title: what it is, for the table.
        budget: seconds that it may take on two cores.
        paths: where its tests are.
        workers: how many processes run it; tests that measure time have the machine to themselves.
    """

    name: str
    title: str
    budget: int
    paths: tuple[str, ...]
    workers: int = 2


PARTS = (
    Part(
        "unit",
        "unit and docs",
        60,
        (
            "tests/primitives",
            "tests/config",
            "tests/demo",
            "tests/cli",
            "tests/transport",
            "tests/discovery",
            "tests/network",
            "tests/linearizability",
            "tests/docs",
            "tests/test_*.py",
        ),
    ),
    Part(
        "consensus",
        "consensus simulation",
        90,
        (
            "tests/consensus",
            *(f"tests/simulation/test_{name}.py" for name in ("bugs", "page", "runs", "world")),
        ),
    ),
    Part("storage", "storage kit and mutants", 150, ("tests/storage",)),
    Part("groups", "whole-group simulation", 90, ("tests/simulation/test_seeds.py",)),
    Part("processes", "real processes", 120, ("tests/processes",), workers=0),
    Part(
        "machines",
        "groups, machines, test tools and examples",
        60,
        ("tests/groups", "tests/machines", "tests/testing", "tests/examples"),
    ),
)


class Outcome(NamedTuple):
    """What one part came to."""

    seconds: float
    passed: int
    failed: int
    skipped: int
    status: int


def files_of(part: Part) -> list[Path]:
    """The paths of a part that exist."""
    return sorted(path for pattern in part.paths for path in ROOT.glob(pattern))


def run(part: Part) -> Outcome:
    """Runs one part; its output goes to the terminal as it comes."""
    paths = [str(path.relative_to(ROOT)) for path in files_of(part)]
    print(f"\n== {part.title}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *paths]
        if part.workers:
            command += ["-n", str(part.workers), "--dist", "worksteal"]
        started = time.monotonic()
        status = subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode
        seconds = time.monotonic() - started
        return read(report, seconds, status)


def read(report: Path, seconds: float, status: int) -> Outcome:
    """Reads the counts of a report; a run that left none has failed."""
    if not report.exists():
        return Outcome(seconds, 0, 1, 0, status or 1)
    total = failed = skipped = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests", "0"))
        failed += int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        skipped += int(suite.get("skipped", "0"))
    return Outcome(seconds, max(0, total - failed - skipped), failed, skipped, status)


def main(names: list[str]) -> int:
    """Runs the named parts, or all, and prints the table."""
    known = {part.name: part for part in PARTS}
    if unknown := [name for name in names if name not in known]:
        print(f"unknown part {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    outcomes = [(known[name], run(known[name])) for name in names or known]
    print(f"\n{'part':<26} {'seconds':>8} {'budget':>7} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for part, one in outcomes:
        late = "  over its budget" if one.seconds > part.budget else ""
        print(
            f"{part.title:<26} {one.seconds:8.1f} {part.budget:7} {one.passed:7} "
            f"{one.failed:7} {one.skipped:8}{late}"
        )
    seconds = sum(one.seconds for _, one in outcomes)
    passed, failed, skipped = (sum(one[at] for _, one in outcomes) for at in (1, 2, 3))
    print(f"{passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s")
    return 1 if failed or any(one.status for _, one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
