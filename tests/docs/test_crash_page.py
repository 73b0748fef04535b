"""The how-to for crash recovery, followed to the letter, and with the machine broken as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mosaik.storage import list_backends
from tests.docs.backend_page import files

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "crash-recovery.md"

#: What the page breaks, and how.
WHOLE = "        return left\n\n    def query"
BROKEN = """        if random.random() < 0.5:
            self.accounts["bonus"] = self.accounts.get("bonus", 0) + 1
        return left

    def query"""


@pytest.fixture(autouse=True)
def sqlite() -> None:
    row = next(each for each in list_backends() if each.scheme == "sqlite")
    if not row.importable:
        pytest.skip(row.problem)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def write(directory: Path) -> Path:
    for name, text in files(PAGE).items():
        (directory / name).write_text(text)
    return directory / "bank.py"


@pytest.mark.timeout(110)
def test_every_test_of_the_page_passes(tmp_path: Path) -> None:
    write(tmp_path)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.timeout(110)
def test_a_machine_that_is_not_deterministic_is_told_where_the_replicas_parted(
    tmp_path: Path,
) -> None:
    bank = write(tmp_path)
    text = bank.read_text()
    assert WHOLE in text
    assert BROKEN.partition("\n\n")[0] in PAGE.read_text()
    bank.write_text("import random\n\n" + text.replace(WHOLE, BROKEN))
    done = run(tmp_path, "-k", "balances_are_never_stale")
    assert done.returncode == 1, done.stdout
    assert "the replicas part at entry " in done.stdout
    assert "Pay(payer='bank', payee='account-" in done.stdout
    assert "the answers agree, and the states differ in accounts" in done.stdout
    shown = set(re.findall(r"    accounts = (\{.*\})$", done.stdout, re.MULTILINE))
    assert len(shown) > 1, "the states are shown, and differ"
