"""Stores of every format that was ever released open, and read the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from mosaik.storage import list_backends, open_storage
from tests.storage.golden.make import BACKENDS, PEER, Expected, place_of, read_all

GOLDEN = Path(__file__).with_name("golden")
PROBLEMS = {backend.scheme: backend.problem for backend in list_backends()}
FORMATS = sorted(path.name for path in GOLDEN.glob("format-*"))


def read_expected(name: str) -> list[Expected]:
    return msgspec.json.decode((GOLDEN / name / "expected.json").read_bytes(), type=list[Expected])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_store_of_this_format_reads_the_same(name: str, backend: str, tmp_path: Path) -> None:
    if problem := PROBLEMS.get(backend, "not registered"):
        pytest.skip(problem)
    shutil.copytree(GOLDEN / name, tmp_path, dirs_exist_ok=True)
    for _ in range(2):  # as it was kept, and as this version leaves it
        environment = open_storage(backend, peer=PEER, data_dir=tmp_path)
        identities = sorted(environment.logs(), key=lambda each: each.group)
        found = [read_all(environment.log(identity), identity) for identity in identities]
        for identity in identities:
            environment.verify(environment.log(identity))
        environment.close()
        expected = read_expected(name)
        assert all(len(each.hard_state.store) == 16 for each in found)
        for index, each in enumerate(expected):
            if not each.hard_state.store:
                # Made with the log by each backend, and not part of what was written.
                store = found[index].hard_state.store
                hard_state = msgspec.structs.replace(each.hard_state, store=store)
                expected[index] = msgspec.structs.replace(each, hard_state=hard_state)
        assert found == expected


def test_there_is_a_golden_store_of_every_backend() -> None:
    for name in FORMATS:
        assert all(place_of(backend, GOLDEN / name).exists() for backend in BACKENDS)
    assert "format-1" in FORMATS
