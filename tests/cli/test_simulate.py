"""``mosaik simulate``: one seed, many, what is broken, and the command that shows it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.groups.reads import Reads
from mosaik.testing.simulation import Property, run_seed

Capsys = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: Capsys) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["simulate", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_one_seed_says_what_happened(run: Run) -> None:
    status, out, _ = run("--seed", "3")
    assert status == 0
    outcome = run_seed(3)
    assert out.startswith(f"seed 3: hash {outcome.hash:08x}, {outcome.steps} steps\n")
    assert out.endswith("no rule was broken\n")
    assert f"{outcome.counts['acknowledged']}\n" in out


def test_one_seed_for_machines_and_with_its_trace(run: Run) -> None:
    status, out, _ = run("--seed", "3", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["seed"] == 3
    assert found["violation"] == ""
    status, out, _ = run("--seed", "3", "--trace")
    assert f"hash {found['hash']}" in out.splitlines()[-1 - len(found["counts"]) - 1]


def test_many_seeds_in_two_processes_and_in_one(run: Run) -> None:
    reports: list[dict[str, Any]] = []
    for workers in ("1", "2"):
        status, out, _ = run("--seeds", "4", "--seed", "8", "--workers", workers, "--json")
        assert status == 0
        reports.append(json.loads(out) | {"seconds": 0})
    assert reports[0] == reports[1]
    assert reports[0]["seeds"] == 4
    assert reports[0]["failures"] == []
    status, out, _ = run("--seeds", "2")
    assert status == 0
    assert out.startswith("2 seeds, ")
    assert "elections" in out


def test_what_is_broken_is_shrunk_and_can_be_seen_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(reads: Reads, query: object, pending: object) -> None:
        reads._resolve(query, pending)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Reads, "ask", at_once)
    first = next(seed for seed in range(20) if run_seed(seed).violation)
    status, out, err = run("--seeds", "2", "--seed", str(first), "--workers", "1", "--json")
    assert status == 1
    report = json.loads(out)
    failure, shrunk = report["failures"][0], report["shrunk"]
    assert failure["seed"] == first
    assert failure["replay"] == f"mosaik simulate --seed {first} --trace"
    assert Property.LINEARIZABLE.value in shrunk["violation"]
    command = shlex.split(shrunk["replay"])
    assert command[:2] == ["mosaik", "simulate"]
    status, out, err = run(*command[2:])
    assert status == 1
    assert out.rstrip().endswith(shrunk["violation"])
    assert not err


def test_too_much_destroyed_is_refused(run: Run) -> None:
    status, out, _ = run("--seed", "3", "--beyond")
    assert status == 0
    assert "no rule was broken" in out


@pytest.mark.parametrize(
    "arguments", [("--trace",), ("--nodes", "3"), ("--seed", "1", "--seeds", "2", "--trace")]
)
def test_what_is_for_one_seed_needs_one(run: Run, arguments: tuple[str, ...]) -> None:
    status, _, err = run(*arguments)
    assert status == 2
    assert "name it by --seed" in err


def test_a_fault_that_is_not_known_is_named_with_the_nearest(run: Run) -> None:
    status, _, err = run("--seed", "1", "--faults", "crahs")
    assert status != 0
    assert "no fault is called 'crahs'" in err
    assert "crash" in err
