"""``make bench``: everything, side by side, in one run.

``make bench ARGS="--only groups --runs 1 --seconds 2"`` is a quick look.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.contestant import Contestant
from bench.group_etcd import Etcd
from bench.group_mosaik import Mosaik
from bench.group_pysyncobj import PySyncObj
from bench.groups import compare, table
from bench.report import README, write
from bench.storage import run as run_storage

__all__ = ["main"]

OUTSTANDING = (1, 64, 256, 1000)
STORES = ("rocksdb", "lmdb", "sqlite")


def main(arguments: Sequence[str]) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=["storage", "groups"])
    parser.add_argument("--runs", type=int, default=5, help="alternating runs (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--outstanding", type=int, nargs="*", default=list(OUTSTANDING))
    parser.add_argument("--stores", nargs="*", default=list(STORES))
    parser.add_argument("--write", action="store_true", help="put the result into the README")
    given = parser.parse_args(arguments)
    report = [_machine()]
    if given.only != "groups":
        report += ["### Storage", run_storage(runs=given.runs)]
    if given.only != "storage":
        contestants: list[Contestant] = [*map(Mosaik, given.stores), Etcd(), PySyncObj()]
        results, not_run = asyncio.run(
            compare(contestants, given.outstanding, runs=given.runs, seconds=given.seconds)
        )
        report += ["### Three members", table(contestants, given.outstanding, results, not_run)]
    text = "\n\n".join(report)
    print(text)
    if given.write:
        write(README, "bench", text)
    return 0


def _machine() -> str:
    done = datetime.now(UTC).date().isoformat()
    return (
        f"Measured {done} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
