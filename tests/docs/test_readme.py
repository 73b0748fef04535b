"""The README's programs: run as they are printed, and run again."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mosaik.testing.ports import free_ports

ROOT = Path(__file__).resolve().parent.parent.parent


def programs() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_readme_prints_two() -> None:
    assert len(programs()) == 2


# -- on one machine ---------------------------------------------------------------------------------


def run(directory: Path) -> str:
    path = directory / "tally.py"
    path.write_text(programs()[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_as_printed_and_finds_its_value_again(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    assert first != second
    numbers = [int(re.findall(r"\d+", output)[-1]) for output in (first, second)]
    assert numbers[1] == numbers[0] + 1


def test_it_is_about_twenty_lines() -> None:
    lines = [line for line in programs()[0].splitlines() if line.strip()]
    assert len(lines) <= 22


# -- on three ---------------------------------------------------------------------------------------


@contextmanager
def node(program: Path, address: str) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(program), address],
        cwd=program.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def value(process: subprocess.Popen[str]) -> int:
    """What its next successful increment made of the counter."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.fullmatch(r"entry \d+ made it (\d+)\n", line):
            return int(match[1])
    raise AssertionError("it ended")


@pytest.mark.timeout(90)
def test_three_go_on_when_one_dies(tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    program = tmp_path / "three.py"
    printed = programs()[1]
    for number, address in enumerate(addresses, 1):
        assert f"10.0.0.{number}:4433" in printed
        printed = printed.replace(f"10.0.0.{number}:4433", address)
    program.write_text(printed)
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(node(program, each)) for each in addresses)
        before = max(value(first), value(second), value(third))
        third.kill()
        while max(value(first), value(second)) < before + 4:
            pass
