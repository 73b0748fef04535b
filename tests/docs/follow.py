"""Follows the how-to for backends to the letter, in a directory and a virtual environment of its own.

The registry has no mosaik of this commit, so pip is shown where a wheel of it lies; everything else comes
from where pip gets it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree

from tests.docs.backend_page import commands, files

__all__ = ["follow"]

ROOT = Path(__file__).resolve().parent.parent.parent


def follow(directory: Path) -> Mapping[str, int]:
    """Types every command, and writes every file between those that make the directories and the others.

    Raises:
        CalledProcessError: a command fails; pip may have no registry here.
        AssertionError: the store has not earned all four marks.
    """
    rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    wheels = directory / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    first, *later = commands()
    package = directory / "mosaik-storage-file"
    card = directory / "card.json"
    _type(directory, wheels, first)
    for name, text in files().items():
        (package / name).write_text(text)
    check = next(
        line for block in later for line in block if line.startswith("mosaik storage check")
    )
    asked = [f"cd {package.name}", ". .venv/bin/activate"]
    _type(directory, wheels, [*asked, *(line for block in later for line in block)])
    _type(directory, wheels, [*asked, f"{check} --json > {card}"])
    verdicts = json.loads(card.read_text())["verdicts"]
    assert set(verdicts.values()) == {"earned"}, verdicts
    return {"commands": sum(map(len, commands())), "marks": len(verdicts)}


def _type(directory: Path, wheels: Path, lines: list[str]) -> None:
    hidden = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PIP_FIND_LINKS"] = str(wheels)
    script = "\n".join(["set -eux", *lines])
    subprocess.run(["bash", "-c", script], cwd=directory, check=True, env=environment)
