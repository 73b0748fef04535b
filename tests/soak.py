"""Long runs, in parts that can be interrupted and taken up again: ``python -m tests.soak PART``.

A part does rounds until its goal is reached or 45 minutes have passed. What it has done is kept in
``.soak/``, with the commit it was done on; another commit starts anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from tests.docs.follow import follow
from tests.storage.million import around
from tests.storage.soak import (
    DAMAGE_ROUNDS,
    MODEL_ROUNDS,
    POWER_ROUNDS,
    SUBJECTS,
    damage,
    model,
    power,
)

__all__ = ["PARTS", "SoakPart", "main"]

ROOT: Final = Path(__file__).resolve().parent.parent
STATE: Final = ROOT / ".soak"
#: One call never takes longer, in seconds.
LIMIT: Final = 45 * 60


class SoakPart(NamedTuple):
    """One long run.

    Attributes:
        summary: what it does.
        goal: so many rounds.
        round: does the round of a number, which is its seed; answers counts. Raises when it fails.
    """

    summary: str
    goal: int
    round: Callable[[int], Mapping[str, int]]


class Kept(msgspec.Struct):
    """What a part has done so far, and on which commit."""

    commit: str = ""
    rounds: int = 0
    counts: dict[str, int] = {}


def _simulate_core(number: int) -> Mapping[str, int]:
    """A hundred seeds of the consensus simulator."""
    seeds = 100
    command = [sys.executable, "-m", "tests.consensus.simulation", "--seeds", str(seeds)]
    subprocess.run([*command, "--start", str(number * seeds)], cwd=ROOT, check=True)
    return {"seeds": seeds}


def _simulate(number: int) -> Mapping[str, int]:
    """A hundred seeds of whole groups, and five that destroy more than a group can stand."""
    seeds, beyond = 100, 5
    command = [sys.executable, "-m", "mosaik", "simulate"]
    run = [*command, "--seed", str(number * seeds), "--seeds", str(seeds)]
    subprocess.run(run, cwd=ROOT, check=True)
    run = [*command, "--beyond", "--seed", str(number * beyond), "--seeds", str(beyond)]
    subprocess.run(run, cwd=ROOT, check=True)
    return {"seeds": seeds, "beyond": beyond}


def _demo(backend: str) -> Callable[[int], Mapping[str, int]]:
    def kill(_: int) -> Mapping[str, int]:
        command = [sys.executable, "-m", "mosaik", "demo", "--json", "--backend", backend]
        command += ["--kills", "25", "--directory", str(STATE / f"demo-{backend}-{time.time_ns()}")]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        report = json.loads(done.stdout)
        names = ("acknowledged", "lost", "unknown", "kills")
        return {name: report[name] for name in names}

    return kill


def _kill(backend: str) -> Callable[[int], Mapping[str, int]]:
    def kill(number: int) -> Mapping[str, int]:
        command = [sys.executable, "-m", "tests.processes.kills", backend, "--seed", str(number)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return {name: int(count) for name, count in json.loads(done.stdout).items()}

    return kill


def _million(number: int) -> Mapping[str, int]:
    """A ring of copies."""
    return around(STATE / f"million-{number}")


def _howto(_: int) -> Mapping[str, int]:
    """A stranger who has nothing but the page."""
    return follow(STATE / "howto")


def _stalls(number: int) -> Mapping[str, int]:
    """A node starts on a log of ten million entries, on each backend in turn."""
    backends = ("sqlite", "lmdb", "rocksdb")
    length = 10_000_000
    command = [sys.executable, "-m", "tests.processes.replay", backends[number % len(backends)]]
    subprocess.run([*command, "--length", str(length)], cwd=ROOT, check=True)
    return {"entries": length}


PARTS: Final[Mapping[str, SoakPart]] = {
    "consensus": SoakPart("20,000 seeds of the core's simulator", 200, _simulate_core),
    "simulation": SoakPart("20,000 seeds of whole groups with all faults", 200, _simulate),
    "sqlite": SoakPart("1,000 leaders killed on SQLite", 40, _demo("sqlite")),
    "lmdb": SoakPart("1,000 leaders killed on LMDB", 40, _demo("lmdb")),
    "rocksdb": SoakPart("1,000 leaders killed on RocksDB", 40, _demo("rocksdb")),
    **{
        f"kills-{name}": SoakPart(
            f"1,000 nodes killed on {name}, nothing lost, each history with an order",
            40,
            _kill(name),
        )
        for name in ("sqlite", "lmdb", "rocksdb")
    },
    "stalls": SoakPart("30 replays of 10,000,000 entries without a stall", 30, _stalls),
    "million": SoakPart(
        "1,000,000 entries on every durable backend, copied in a ring", 1, _million
    ),
    "howto": SoakPart("the how-to for backends, typed into an empty directory", 1, _howto),
    **{
        f"power-{name}": SoakPart(
            f"every disk that a power failure may leave of {POWER_ROUNDS} histories on {name}",
            POWER_ROUNDS,
            power(name),
        )
        for name in SUBJECTS
    },
    **{
        f"model-{name}": SoakPart(
            f"2,000 long sequences of batches, openings and kills on {name}, against plain lists",
            MODEL_ROUNDS,
            model(name),
        )
        for name in SUBJECTS
    },
    **{
        f"damage-{name}": SoakPart(
            f"every byte of headers, footers and the last batch, and 2,000 others, damaged on {name}",
            DAMAGE_ROUNDS,
            damage(name),
        )
        for name in SUBJECTS
    },
}


def commit() -> str:
    """The commit that is tested, marked when the tree differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def soak(name: str, part: SoakPart) -> int:
    """Does rounds of one part; answers the exit status."""
    STATE.mkdir(exist_ok=True)
    path, now = STATE / f"{name}.json", commit()
    kept = msgspec.json.decode(path.read_bytes(), type=Kept) if path.exists() else Kept()
    if kept.commit != now:
        kept = Kept(commit=now)
    deadline = time.monotonic() + LIMIT
    longest = 0.0
    while kept.rounds < part.goal and time.monotonic() + longest < deadline:
        started = time.monotonic()
        try:
            counts = part.round(kept.rounds)
        except subprocess.CalledProcessError as error:
            print(f"{name}: round {kept.rounds} failed on {now}: {' '.join(map(str, error.cmd))}")
            return 1
        longest = max(longest, time.monotonic() - started)
        kept.rounds += 1
        kept.counts = dict(Counter(kept.counts) + Counter(counts))
        path.write_bytes(msgspec.json.encode(kept))
        _print(name, part, kept)
    _print(name, part, kept)
    return 0


def _print(name: str, part: SoakPart, kept: Kept) -> None:
    print(
        f"{name}: round {kept.rounds} of {part.goal}, {kept.counts}, commit {kept.commit}",
        flush=True,
    )


def main(arguments: list[str]) -> int:
    """Runs the named part."""
    if len(arguments) != 1 or arguments[0] not in PARTS:
        print("make soak PART=..., one of:", file=sys.stderr)
        for name, part in PARTS.items():
            print(f"  {name:<15} {part.summary}", file=sys.stderr)
        return 2
    return soak(arguments[0], PARTS[arguments[0]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
