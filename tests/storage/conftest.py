from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosaik.storage import StorageEnvironment, open_storage
from tests.storage.stores import require
from tests.storage.support import PEER

BACKENDS = ["memory", "sqlite", "lmdb", "rocksdb"]

OpenBackend = Callable[[], StorageEnvironment]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(name)
    return name


@pytest.fixture(params=[name for name in BACKENDS if name != "memory"])
def durable_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(name)
    return name


@pytest.fixture
def opened(backend: str, tmp_path: Path) -> Iterator[OpenBackend]:
    """Opens the backend's store in a directory of the test; closed at the end."""
    environments: list[StorageEnvironment] = []

    def open_() -> StorageEnvironment:
        environment = open_storage(backend, peer=PEER, data_dir=tmp_path)
        environments.append(environment)
        return environment

    yield open_
    for environment in environments:
        environment.close()
