"""Twenty nodes killed under load: nothing is lost, and what clients were told has an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mosaik.storage import list_backends
from mosaik.testing import ClusterNode
from mosaik.testing.linearizability import NotLinearizable
from tests.processes import kills

#: By backend; twenty together.
KILLS = {"sqlite": 7, "lmdb": 7, "rocksdb": 6}


@pytest.mark.parametrize("backend", KILLS)
async def test_nothing_is_lost_and_every_history_has_an_order(backend: str, tmp_path: Path) -> None:
    row = next(each for each in list_backends() if each.scheme == backend)
    if not row.importable:
        pytest.skip(row.problem)
    found = await kills.run(backend, KILLS[backend], seed=1, directory=tmp_path)
    print(found)
    assert found["kills"] == KILLS[backend]
    assert found["leaders killed"] > 0
    assert found["acknowledged"] >= 20 * KILLS[backend]


async def test_the_planted_bug_that_reads_weakly_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node answers from what it has applied itself."""

    async def weak(node: ClusterNode, query: Any, **options: Any) -> Any:
        return await query_(node, query, **{**options, "strong": False})

    query_ = ClusterNode.query
    monkeypatch.setattr(ClusterNode, "query", weak)
    with pytest.raises(NotLinearizable):
        await kills.run("lmdb", 2, seed=2, directory=tmp_path)
