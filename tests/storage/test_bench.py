"""The benchmark of stores runs, whatever is registered here."""

from __future__ import annotations

import pytest

from bench import storage
from mosaik.storage import list_backends


def test_every_backend_is_a_row_and_wrappers_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SIZES", {1: 2})
    rows = [line.split("|")[1].strip() for line in storage.run(runs=1).splitlines()[2:]]
    assert rows[0] == storage.FLOOR
    assert set(rows[1:]) == {
        each.scheme for each in list_backends() if not (each.wraps or each.remote)
    }
