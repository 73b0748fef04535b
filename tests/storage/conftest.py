from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mosaik.storage import StorageEnvironment, open_storage
from tests.storage.stores import require
from tests.storage.support import PEER

if TYPE_CHECKING:
    from tests.storage.servers import ServerSubject

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


@pytest.fixture(scope="session", params=["mariadb", "postgres"])
def subject(request: pytest.FixtureRequest) -> Iterator[ServerSubject]:
    """Stores on a server, one for the whole session. Skips without one, unless it is required."""
    for driver in ("sqlalchemy", "psycopg", "pymysql"):
        pytest.importorskip(driver)
    from tests.storage.servers import KINDS, NoServer, ServerSubject, find

    kind = KINDS[request.param]
    try:
        url, own = find(kind)
    except NoServer as why:
        if kind.name in os.environ.get("MOSAIK_REQUIRE", "").split(","):
            pytest.fail(f"{kind.name} is required: {why}")
        pytest.skip(f"{kind.name}: {why}")
    made = ServerSubject(kind, url, own)
    yield made
    made.close()


@pytest.fixture
def url(subject: ServerSubject, tmp_path: Path) -> str:
    """A store of the test's own on that server."""
    return subject.url(tmp_path)
