"""Groups on real links and real stores: what was acknowledged is there after a new start."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mosaik.groups import ConsensusConfig, Group, GroupKey
from mosaik.machines import Counter
from mosaik.network import Network
from mosaik.primitives.errors import GroupTerminated, StorageLocked, StorageMismatch, UnknownScheme
from tests.groups.fakes import KEY, fast

CounterGroup = Group[Counter.Increment | Counter.Reset, Counter.Value, int]
DRIVERS = {"sqlite": "sqlalchemy", "lmdb": "lmdb", "rocksdb": "rocksdict"}


@pytest.fixture(params=sorted(DRIVERS))
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if importlib.util.find_spec(DRIVERS[name]) is None:
        pytest.skip(f"{DRIVERS[name]} is not installed")
    return name


def join(
    network: Network, storage: str, key: GroupKey = KEY, config: ConsensusConfig | None = None
) -> CounterGroup:
    return (
        network.groups()
        .with_key(key)
        .with_state_machine(Counter())
        .with_log_storage(storage)
        .with_consensus_config(config or fast())
        .join()
    )


async def test_what_was_acknowledged_is_found_again(backend: str, tmp_path: Path) -> None:
    for start in range(3):
        async with Network("test", data_dir=tmp_path) as network, join(network, backend) as group:
            await group.when().online()
            assert await group.query(Counter.Value()) == start * 10
            await group.execute_many([Counter.Increment(1)] * 10)


async def test_two_groups_share_one_store(backend: str, tmp_path: Path) -> None:
    keys = [GroupKey.generate(), GroupKey.generate()]
    for start in range(2):
        async with Network("test", data_dir=tmp_path) as network:
            groups = [join(network, backend, key) for key in keys]
            for number, group in enumerate(groups, 1):
                await group.when().online()
                assert await group.query(Counter.Value()) == start * number
                await group.execute(Counter.Increment(number))
            for group in groups:
                await group.close()


async def test_a_changed_parameter_never_starts_an_empty_log(backend: str, tmp_path: Path) -> None:
    async with Network("test", data_dir=tmp_path) as network:
        async with join(network, backend) as group:
            await group.when().online()
            await group.execute(Counter.Increment(1))
        async with join(network, backend, config=fast(max_voters=3)) as changed:
            with pytest.raises(GroupTerminated, match="max_voters") as ended:
                await changed.when().online()
        assert isinstance(ended.value.__cause__, StorageMismatch)


async def test_another_node_s_store_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    url = f"lmdb://{tmp_path}/store"
    async with Network("test", data_dir=tmp_path / "one") as one, join(one, url) as group:
        await group.when().online()
        async with Network("test", data_dir=tmp_path / "two") as two, join(two, url) as thief:
            with pytest.raises(GroupTerminated) as ended:
                await thief.when().online()
            assert isinstance(ended.value.__cause__, StorageLocked)
    async with Network("test", data_dir=tmp_path / "two") as two, join(two, url) as thief:
        with pytest.raises(GroupTerminated) as ended:
            await thief.when().online()
        assert isinstance(ended.value.__cause__, StorageMismatch)


async def test_a_misspelt_store_says_what_there_is(tmp_path: Path) -> None:
    async with Network("test", data_dir=tmp_path) as network, join(network, "lmbd") as group:
        with pytest.raises(GroupTerminated, match="lmdb") as ended:
            await group.when().online()
        assert isinstance(ended.value.__cause__, UnknownScheme)
