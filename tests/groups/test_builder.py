"""The builder's steps: what a type checker says of them, and what they say at run time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mosaik.groups import ConsensusConfig, Group, Groups
from mosaik.machines import ApplyContext, Counter, NoOp, StateMachine
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import CodecError, ConfigError, GroupTerminated
from mosaik.storage import Description
from tests.groups.fakes import FAST, KEY, FakeNode, FakeStore, World


@pytest_asyncio.fixture
async def node() -> AsyncIterator[FakeNode]:
    world = World()
    yield await world.node()
    await world.close()


async def test_any_order_that_makes_sense_is_taken(node: FakeNode) -> None:
    one = (
        node.groups.with_key(KEY)
        .with_consensus_config(FAST)
        .with_state_machine(Counter())
        .with_log_storage(FakeStore())
        .join()
    )
    async with one:
        config = FAST.deprioritize_leadership()
        two = node.groups.with_key(KEY).with_state_machine(Counter()).with_consensus_config(config)
        assert one.config.consensus == FAST
        assert two._config(Counter()).group_id == one.id


async def test_without_a_machine_it_is_noop_on_memory(node: FakeNode) -> None:
    async with node.groups.with_key(KEY).with_consensus_config(FAST).join() as group:
        await group.when().online()
        assert (await group.execute(None)).result is None
        assert group.config.parts["machine"] == NoOp().signature().hex()


async def test_a_wrong_order_says_what_is_wrong(node: FakeNode) -> None:
    keyed: Any = node.groups.with_key(KEY)
    machined: Any = node.groups.with_key(KEY).with_state_machine(Counter())
    stored: Any = node.groups.with_key(KEY).with_state_machine(Counter()).with_log_storage("memory")
    with pytest.raises(ConfigError, match="call with_state_machine"):
        keyed.with_log_storage("memory")
    with pytest.raises(ConfigError, match="has a key already"):
        keyed.with_key(KEY)
    with pytest.raises(ConfigError, match="has a machine already"):
        machined.with_state_machine(Counter())
    with pytest.raises(ConfigError, match="has a storage already") as error:
        stored.with_log_storage("memory")
    assert isinstance(error.value, AttributeError)
    assert not hasattr(keyed, "with_log_storage")
    with pytest.raises(AttributeError, match="no attribute"):
        keyed.with_something()


async def test_wrong_things_are_refused_where_they_are_given(node: FakeNode) -> None:
    groups: Any = node.groups
    with pytest.raises(ConfigError, match="GroupKey"):
        groups.with_key("a word")
    stage: Any = node.groups.with_key(KEY)
    with pytest.raises(ConfigError, match="StateMachine"):
        stage.with_state_machine(Counter)
    with pytest.raises(ConfigError, match="ConsensusConfig"):
        stage.with_consensus_config({"max_voters": 3})
    with pytest.raises(ConfigError, match="validator"):
        stage.require_ticket("a ticket")


async def test_a_command_type_that_cannot_be_encoded_is_refused_at_join(node: FakeNode) -> None:
    class Odd(Counter):
        @property
        def command_type(self) -> Any:
            return list[Counter] | dict[str, Counter] | tuple[object, ...] | set[int]

    with pytest.raises(CodecError, match="command type of Odd"):
        node.groups.with_key(KEY).with_state_machine(Odd()).join()


PROGRAM = """
from mosaik.groups import Groups, GroupKey
from mosaik.machines import Counter, NoOp
from mosaik.storage import Storage

def f(groups: Groups, key: GroupKey, numbers: Storage[None]) -> None:
    {line}
"""

GOOD = [
    "groups.with_key(key).with_state_machine(Counter()).with_log_storage('lmdb').join()",
    "groups.with_key(key).join()",
    "groups.with_key(key).with_state_machine(NoOp()).with_log_storage(numbers).join()",
    "groups.with_key(key).with_state_machine(Counter()).join().execute(Counter.Increment(1))",
]
BAD = [
    "groups.with_key(key).with_log_storage('lmdb')",
    "groups.with_key(key).with_state_machine(Counter()).with_state_machine(Counter())",
    "groups.with_key(key).with_state_machine(Counter()).with_log_storage(numbers)",
    "groups.with_key(key).with_state_machine(Counter()).join().execute('a word')",
    "groups.join()",
]


def test_a_type_checker_accepts_the_right_order_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    paths: list[Path] = []
    for number, line in enumerate([*GOOD, *BAD]):
        paths.append(tmp_path / f"program_{number}.py")
        paths[-1].write_text(PROGRAM.format(line=line))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null"]
    command += ["--cache-dir", str(tmp_path / "cache"), *map(str, paths)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = {path for path in paths if f"{path.name}:" in done.stdout}
    assert wrong == set(paths[len(GOOD) :]), done.stdout


class Slow(StateMachine[int, None, int]):
    """Only its types matter here."""

    @property
    def command_type(self) -> Any:
        return int

    @property
    def query_type(self) -> Any:
        return None

    @property
    def result_type(self) -> Any:
        return int

    def signature(self) -> Digest:
        return Digest("slow")

    def apply(self, command: int, context: ApplyContext) -> int:
        return command

    def query(self, query: None) -> int:
        return 0

    def reset(self) -> None:
        """Nothing to forget."""


async def test_handles_are_typed_by_their_machine(node: FakeNode) -> None:
    groups: Groups = node.groups
    config: ConsensusConfig = FAST
    async with (
        groups.with_key(KEY).with_state_machine(Slow()).with_consensus_config(config).join() as g
    ):
        await g.when().online()
        result: int = (await g.execute(3)).result
        assert result == 3


async def test_a_path_is_no_storage(node: FakeNode) -> None:
    stage: Any = node.groups.with_key(KEY).with_state_machine(Counter())
    with pytest.raises(ConfigError, match=r"takes a backend.s name, a URL, or an opened store"):
        stage.with_log_storage(Path("/var/lib/raft.db"))
    with pytest.raises(ConfigError, match="empty name"):
        stage.with_log_storage("")


class Forgetful(FakeStore):
    """Says of itself that a killed process loses what is in it, and is not called memory."""

    def describe(self) -> Description:
        return msgspec.structs.replace(super().describe(), url="sketchy://store")


async def test_a_store_that_forgets_is_taken_only_when_that_was_said(node: FakeNode) -> None:
    """Whoever believes to be durable and is not would vote twice after a crash."""

    def joined(**said: bool) -> Group[Any, Any, Any]:
        stage = node.groups.with_key(KEY).with_state_machine(Counter())
        store = Forgetful(durable=False)
        return stage.with_log_storage(store, **said).with_consensus_config(FAST).join()

    async with joined() as refused:
        with pytest.raises(GroupTerminated, match="allow_volatile=True") as ended:
            await refused.when().online()
        assert isinstance(ended.value.__cause__, ConfigError)
    async with joined(allow_volatile=True) as group:
        await group.when().online()
        assert (await group.execute(Counter.Increment(1))).result == 1


async def test_a_durable_store_is_refused_to_a_node_that_comes_back_as_another(
    node: FakeNode,
) -> None:
    node.durable = False
    stage = node.groups.with_key(KEY).with_state_machine(Counter())
    async with stage.with_log_storage(FakeStore()).with_consensus_config(FAST).join() as refused:
        with pytest.raises(GroupTerminated, match="stranger to its own log") as ended:
            await refused.when().online()
        assert isinstance(ended.value.__cause__, ConfigError)
