"""Groups of several nodes in one process, on links and stores in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from mosaik.groups import ConsensusConfig, Consistency, Group, GroupKey, Observer
from mosaik.machines import ApplyContext, Counter, NoOp
from mosaik.primitives.cursor import IndexRange
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import (
    ApplyError,
    CodecError,
    ConfigError,
    GroupTerminated,
    JoinConflict,
    LastVoter,
    NoCommands,
    Offline,
    OutcomeUnknown,
    QueryOffline,
    StorageMismatch,
)
from tests.groups.fakes import FAST, KEY, FakeNode, FakeStore, World, fast

CounterGroup = Group[Counter.Increment | Counter.Reset, Counter.Value, int]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


def join(
    node: FakeNode, store: FakeStore | None = None, config: ConsensusConfig = FAST
) -> CounterGroup:
    return (
        node.groups.with_key(KEY)
        .with_state_machine(Counter())
        .with_log_storage(store or FakeStore())
        .with_consensus_config(config)
        .join()
    )


async def test_one_node_alone_serves(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        applied = await group.execute(Counter.Increment(5))
        assert applied.result == 5
        assert await group.query(Counter.Value(), Consistency.STRONG) == 5


async def test_three_nodes_agree(world: World) -> None:
    nodes = [await world.node() for _ in range(3)]
    groups = [join(node) for node in nodes]
    await asyncio.gather(*(group.when().online() for group in groups))
    for group in groups:
        await group.execute(Counter.Increment(1))
    for group in groups:
        assert await group.query(Counter.Value()) == 3
    for group in groups:
        await group.close()


async def settle(groups: list[CounterGroup]) -> PeerId:
    """Waits until all of them agree on a leader that takes commands."""
    await asyncio.gather(*(group.when().online() for group in groups))
    return await groups[0].when().leader_elected()


async def formed(world: World, count: int = 3) -> tuple[list[FakeNode], list[CounterGroup]]:
    """A group of ``count`` voters that all know each other."""
    nodes = [await world.node() for _ in range(count)]
    config = fast(bootstrap_expect=count)
    groups = [join(node, config=config) for node in nodes]
    await settle(groups)
    return nodes, groups


def voters(group: CounterGroup) -> list[bytes]:
    """Who votes, as this node knows."""
    view = group._replica.view
    assert view is not None
    return [replica.peer for replica in view.configuration.voters]


async def close_all(groups: list[CounterGroup]) -> None:
    await asyncio.gather(*(group.close() for group in groups))


async def test_commands_may_be_given_on_any_node_and_read_on_any_other(world: World) -> None:
    _, groups = await formed(world)
    indices: list[int] = []
    for group in groups:
        indices.append(await group.execute(Counter.Increment(1)))
        # What execute has answered is in this node's own state.
        assert await group.query(Counter.Value(), Consistency.WEAK) == len(indices)
        for other in groups:
            assert await other.query(Counter.Value(), Consistency.STRONG) == len(indices)
    assert indices == sorted(set(indices))
    assert groups[0].id == groups[1].id
    await close_all(groups)


async def test_calls_on_one_handle_keep_their_order(world: World) -> None:
    _, groups = await formed(world)
    for group in groups:
        answers = [group.execute(Counter.Reset(n)) for n in range(2000)]
        done = await asyncio.gather(*answers)
        assert [applied.result for applied in done] == list(range(2000))
        assert list(done) == sorted(done)
    await close_all(groups)


async def test_a_batch_is_contiguous(world: World) -> None:
    _, groups = await formed(world)
    for group in groups:
        one, two = await asyncio.gather(
            group.execute_many([Counter.Increment(1)] * 100),
            group.feed_many([Counter.Increment(1)] * 50),
        )
        assert len(one) == len(one.results) == 100
        assert one.results == list(range(one.results[0], one.results[0] + 100))
        assert two == IndexRange(one.end + 1, one.end + 50)
        await group.when().committed().reaches(two)
    await close_all(groups)


async def test_the_leader_s_death_is_survived(world: World) -> None:
    nodes, groups = await formed(world)
    await groups[0].execute(Counter.Increment(7))
    leader = groups[0].leader
    dead = next(i for i, node in enumerate(nodes) if node.peer == leader)
    rest = [group for i, group in enumerate(groups) if i != dead]
    changed = rest[0].when().leader_changed()
    nodes[dead].crash()
    assert await asyncio.wait_for(changed, 5) != leader
    await settle(rest)
    assert await rest[1].query(Counter.Value()) == 7
    assert (await rest[0].execute(Counter.Increment(1))).result == 8
    await close_all(groups)


async def test_a_leader_that_is_cut_off_gives_no_answer_and_no_stale_read(world: World) -> None:
    nodes, groups = await formed(world)
    leader = next(i for i, node in enumerate(nodes) if node.peer == groups[0].leader)
    rest = [group for i, group in enumerate(groups) if i != leader]
    old = groups[leader]
    changed = rest[0].when().leader_changed()
    world.hub.isolate(nodes[leader].peer)
    doomed = old.execute(Counter.Increment(100))
    await changed
    await settle(rest)
    await rest[0].execute(Counter.Increment(1))
    with pytest.raises(QueryOffline):
        await old.query(Counter.Value(), Consistency.STRONG)
    assert await old.query(Counter.Value(), Consistency.WEAK) == 0
    with pytest.raises(OutcomeUnknown) as unknown:
        await doomed
    assert unknown.value.commands == [Counter.Increment(100)]
    with pytest.raises(Offline):
        await old.execute(Counter.Increment(1000))
    world.hub.heal()
    await old.when().committed().reaches(rest[0].committed)
    assert await old.query(Counter.Value(), Consistency.STRONG) == 1
    await close_all(groups)


async def test_a_command_that_was_truncated_is_certainly_not_done(world: World) -> None:
    nodes, groups = await formed(world)
    leader = next(i for i, node in enumerate(nodes) if node.peer == groups[0].leader)
    rest = [group for i, group in enumerate(groups) if i != leader]
    old = groups[leader]
    changed = rest[0].when().leader_changed()
    world.hub.isolate(nodes[leader].peer)
    doomed = old.execute(Counter.Increment(100))
    await changed
    await settle(rest)
    world.hub.heal()
    with pytest.raises(Offline):
        await doomed
    assert await old.query(Counter.Value(), Consistency.STRONG) == 0
    await close_all(groups)


async def test_close_is_a_pause_and_hands_leadership_over(world: World) -> None:
    nodes, groups = await formed(world)
    stores = [group._running.storage for group in groups]
    await groups[0].execute(Counter.Increment(3))
    leader = next(i for i, node in enumerate(nodes) if node.peer == groups[0].leader)
    rest = [group for i, group in enumerate(groups) if i != leader]
    changed = rest[0].when().leader_changed()
    await groups[leader].close()
    await asyncio.wait_for(changed, 2)
    with pytest.raises(GroupTerminated):
        groups[leader].execute(Counter.Increment(1))
    await rest[0].execute(Counter.Increment(1))
    assert len(voters(rest[0])) == 3  # it keeps its vote
    store = stores[leader].storage
    assert isinstance(store, FakeStore)
    again = join(nodes[leader], store, fast(bootstrap_expect=3))
    await again.when().online()
    assert await again.query(Counter.Value()) == 4
    await close_all([again, *rest])


async def test_leave_is_for_good(world: World) -> None:
    _, groups = await formed(world)
    await groups[0].execute(Counter.Increment(3))
    store = groups[0]._running.storage.storage
    assert isinstance(store, FakeStore)
    await groups[0].leave()
    assert store.retired == 1
    await settle(groups[1:])
    await groups[1].execute(Counter.Increment(1))
    assert len(voters(groups[1])) == 2
    await groups[1].leave()
    await settle(groups[2:])
    with pytest.raises(LastVoter):
        await groups[2].leave()
    assert (await groups[2].execute(Counter.Increment(1))).result == 5
    await groups[2].leave(end_history=True)


async def test_leadership_can_be_handed_to_a_peer(world: World) -> None:
    nodes, groups = await formed(world)
    for target, node in zip(groups, nodes, strict=True):
        if not target.is_leader:
            leader = next(group for group in groups if group.is_leader)
            await leader.transfer_leadership(node.peer)
            await asyncio.wait_for(target.when().is_leader(), 2)
    await close_all(groups)


async def test_a_dead_peer_can_be_removed(world: World) -> None:
    nodes, groups = await formed(world)
    victim = next(i for i, group in enumerate(groups) if not group.is_leader)
    rest = [group for i, group in enumerate(groups) if i != victim]
    nodes[victim].crash()
    await rest[0].remove(nodes[victim].peer)
    await rest[1].execute(Counter.Increment(1))
    assert len(voters(rest[1])) == 2
    await close_all(groups)


async def test_joining_twice_is_one_group_with_two_handles(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    one, two = join(node, store), join(node, store)
    await one.when().online()
    await one.execute(Counter.Increment(1))
    assert await two.query(Counter.Value(), Consistency.WEAK) == 1
    await one.close()
    with pytest.raises(GroupTerminated):
        one.query(Counter.Value())
    assert (await two.execute(Counter.Increment(1))).result == 2
    await two.close()
    three = join(node, store)
    await three.when().online()
    assert await three.query(Counter.Value()) == 2
    await three.close()


async def test_joining_again_while_it_closes_waits_for_the_end(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    one = join(node, store)
    await one.when().online()
    closing = asyncio.ensure_future(one.close())
    await asyncio.sleep(0)
    two = join(node, store)
    await two.when().online()
    await closing
    assert store.openings == 2
    await two.close()


async def test_joining_with_other_parts_is_a_conflict(world: World) -> None:
    class Other(Counter):
        """The same signature, another machine."""

    node = await world.node()
    async with join(node):
        with pytest.raises(JoinConflict, match="storage"):
            join(node)
        builder = node.groups.with_key(KEY).with_state_machine(Other())
        with pytest.raises(JoinConflict, match="Other"):
            builder.with_log_storage(FakeStore()).with_consensus_config(FAST).join()


@pytest.mark.parametrize("difference", ["key", "config", "machine"])
async def test_what_differs_does_not_bond(world: World, difference: str) -> None:
    one, two = await world.node(), await world.node()
    mine = join(one)
    key = GroupKey.generate() if difference == "key" else KEY
    machine: Any = NoOp() if difference == "machine" else Counter()
    config = fast(forward_timeout=9) if difference == "config" else FAST
    other = (
        two.groups.with_key(key)
        .with_state_machine(machine)
        .with_log_storage(FakeStore())
        .with_consensus_config(config)
        .join()
    )
    assert mine.id != other.id
    await asyncio.gather(mine.when().online(), other.when().online())
    assert mine.bonds().is_empty
    assert other.bonds().is_empty
    await asyncio.gather(mine.close(), other.close())


async def test_deprioritized_nodes_do_not_lead_while_others_can(world: World) -> None:
    nodes = [await world.node() for _ in range(3)]
    config = fast(bootstrap_expect=3)
    modest = config.deprioritize_leadership_by(10)
    groups = [join(node, config=modest) for node in nodes[:2]] + [join(nodes[2], config=config)]
    assert len({group.id for group in groups}) == 1
    await settle(groups)
    for _ in range(2):
        leader = next(group for group in groups if group.is_leader)
        if leader is groups[2]:
            break
        await leader.transfer_leadership()  # to the most willing
        await asyncio.wait_for(groups[2].when().is_leader(), 2)
    assert groups[2].is_leader
    await close_all(groups)


async def test_an_observer_forwards_and_never_votes(world: World) -> None:
    nodes = [await world.node() for _ in range(2)]
    observer = join(nodes[0], config=FAST.with_leadership(Observer()))
    voter = join(nodes[1])
    await settle([observer, voter])
    assert (await observer.execute(Counter.Increment(2))).result == 2
    assert await observer.query(Counter.Value()) == 2
    assert voters(observer) == [nodes[1].peer]
    await close_all([observer, voter])


async def test_a_machine_that_raises_ends_the_group_with_its_error(world: World) -> None:
    class Fragile(Counter):
        def apply(self, command: Any, context: ApplyContext) -> int:
            if command == Counter.Increment(13):
                raise ZeroDivisionError("thirteen")
            return super().apply(command, context)

    node = await world.node()
    stage = node.groups.with_key(KEY).with_state_machine(Fragile()).with_consensus_config(FAST)
    group = stage.with_log_storage(FakeStore()).join()
    await group.when().online()
    await group.execute(Counter.Increment(1))
    waiting = group.when().offline()
    with pytest.raises(GroupTerminated) as ended:
        await group.execute(Counter.Increment(13))
    cause = ended.value.__cause__
    assert isinstance(cause, ApplyError)
    assert isinstance(cause.__cause__, ZeroDivisionError)
    assert cause.index == group.committed + 1
    await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(GroupTerminated):
        await group.when().committed().advanced()
    await group.close()


async def test_a_command_that_cannot_be_encoded_is_refused_at_the_call(world: World) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
        wrong: Any = "not a counter's command"
        with pytest.raises(CodecError, match="not a command of Counter"):
            group.execute(wrong)
        with pytest.raises(CodecError):
            group.execute(Counter.Increment(object()))  # type: ignore[arg-type]
        with pytest.raises(CodecError):
            group.execute(Counter.Increment(2**80))
        with pytest.raises(NoCommands):
            group.execute_many([])
        assert (await group.execute(Counter.Increment(1))).result == 1


async def test_a_durable_store_needs_a_durable_identity(world: World) -> None:
    node = await world.node(durable=False)
    stage = node.groups.with_key(KEY).with_state_machine(Counter())
    with pytest.raises(ConfigError, match="data_dir"):
        stage.with_log_storage("sqlite").join()
    node.storage_url = "lmdb"
    with pytest.raises(ConfigError, match="data_dir"):
        stage.join()
    group = stage.with_log_storage(FakeStore()).join()
    with pytest.raises(GroupTerminated) as ended:
        await group.when().online()
    assert isinstance(ended.value.__cause__, ConfigError)
    await group.close()


async def test_a_store_that_cannot_be_opened_is_the_cause_everywhere(world: World) -> None:
    node = await world.node()
    store = FakeStore()
    store.refuse_open = StorageMismatch("max_voters was 5 and is 3", part="max_voters")
    group = join(node, store)
    with pytest.raises(GroupTerminated, match="max_voters") as ended:
        await group.when().online()
    assert ended.value.__cause__ is store.refuse_open
    for call in (lambda: group.execute(Counter.Increment(1)), lambda: group.query(Counter.Value())):
        with pytest.raises(GroupTerminated) as again:
            await call()
        assert again.value.__cause__ is store.refuse_open
    await group.close()


async def test_a_forgotten_group_warns_and_closes(world: World) -> None:
    node = await world.node()
    group = join(node)
    await group.when().online()
    task = group._running.task
    held = [group]
    del group
    with pytest.warns(ResourceWarning, match="never closed"):
        held.clear()
    await asyncio.wait_for(task, 2)


async def test_a_consistency_may_be_said_as_text_and_not_misspelt(world: World) -> None:
    nodes = [await world.node() for _ in range(3)]
    groups = [join(node, config=fast(bootstrap_expect=3)) for node in nodes]
    await asyncio.gather(*(group.when().online() for group in groups))
    with pytest.raises(ConfigError, match="no consistency 'storng'"):
        groups[0].query(Counter.Value(), "storng")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for other in nodes[1:]:
        await other.groups.close()
    with pytest.raises(QueryOffline):  # a weak answer could be had
        await groups[0].query(Counter.Value(), "strong")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await groups[0].close()


async def test_founders_that_do_not_meet_are_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    node = await world.node()
    async with join(node, config=fast(bootstrap_expect=3)):
        while not (lines := [r.getMessage() for r in caplog.records if "have met" in r.message]):
            await asyncio.sleep(0.01)
    assert "1 of the 3 nodes that bootstrap_expect asks for have met" in lines[0]


async def test_a_durable_history_begun_alone_is_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    node = await world.node()
    async with join(node) as group:
        await group.when().online()
    assert [r for r in caplog.records if "bootstrap_expect is 1" in r.getMessage()]
