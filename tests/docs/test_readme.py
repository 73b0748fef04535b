"""The README's program: run as it is printed, and run again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def program() -> str:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 1, "the README prints one program"
    return str(blocks[0])


def run(directory: Path) -> str:
    path = directory / "tally.py"
    path.write_text(program())
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
    lines = [line for line in program().splitlines() if line.strip()]
    assert len(lines) <= 22
