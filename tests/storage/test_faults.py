"""Stores that fail when a test wants them to, in front of real ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.groups import Consistency
from mosaik.machines import Counter
from mosaik.network import Network
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import (
    ConfigError,
    InvalidBatch,
    Offline,
    OutcomeUnknown,
    StorageClosed,
    StorageFull,
    StoragePoisoned,
    StorageUnavailable,
    UnknownScheme,
)
from mosaik.storage import Storage, StorageEnvironment, Writer, list_backends, open_storage
from mosaik.storage.plugin import WrapperPlugin
from mosaik.storage.shared import SharedEnvironment
from mosaik.testing.faults import (
    Difference,
    FaultyEnvironment,
    TeeEnvironment,
    WrappedEnvironment,
    WrappedStorage,
    faulty,
)
from mosaik.testing.storage import Outcome, Rule, Subject, hard_state, rules, try_rule
from mosaik.testing.storage.rule import Mark
from tests.groups.fakes import KEY, World, fast
from tests.groups.test_durable import join
from tests.groups.test_group import close_all, settle
from tests.storage.support import PEER, entries, identity


class Opener:
    """Opens stores of a test, and closes them at its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stack = ExitStack()

    def __call__(self, url: str, **where: Any) -> SharedEnvironment:
        """``{}`` in the URL is the test's directory."""
        environment = open_storage(url.format(self.directory), peer=PEER, **where)
        self.stack.callback(environment.close)
        assert isinstance(environment, SharedEnvironment)
        return environment


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(tmp_path)
    with opener.stack:
        yield opener


def append(log: Storage[Any], count: int = 1) -> None:
    for _ in range(count):
        log.append(entries(1, log.tail))


# -- faulty ------------------------------------------------------------------------------------------


def test_a_failed_sync_poisons_and_the_batch_is_there_afterwards(opened: Opener) -> None:
    url = "faulty+sqlite://{}/a.db?fail_sync_at=6"
    environment = opened(url)
    log = environment.log(identity())
    append(log, 5)
    with pytest.raises(StoragePoisoned, match=r"sync of commit 6 fails.*faulty\+sqlite://"):
        append(log)
    assert isinstance(environment.poisoned, OSError)
    for use in (lambda: append(log), lambda: log.get(1), environment.logs, environment.idle):
        with pytest.raises(StoragePoisoned):
            use()
    again = opened(url).log(identity())  # while the poisoned one has not been closed
    assert again.last().index == 6


def test_a_failed_write_poisons_and_the_batch_is_not_there(opened: Opener) -> None:
    url = "faulty+lmdb://{}/a?fail_write_at=3"
    log = opened(url).log(identity())
    append(log, 2)
    with pytest.raises(StoragePoisoned, match="write of commit 3 fails"):
        append(log)
    again = opened(url).log(identity())
    assert again.last().index == 2


def test_a_fault_happens_once_until_the_store_is_closed_in_good_health(opened: Opener) -> None:
    url = "faulty+sqlite://{}/a.db?fail_write_at=2&fail_sync_at=4"
    first = opened(url)
    log = first.log(identity())
    append(log)
    with pytest.raises(StoragePoisoned, match="write"):
        append(log)
    first.close()
    second = opened(url)
    log = second.log(identity())
    append(log, 3)
    with pytest.raises(StoragePoisoned, match="sync"):
        append(log)
    third = opened(url)
    log = third.log(identity())
    append(log, 10)
    third.close()
    log = opened(url).log(identity())
    append(log)
    with pytest.raises(StoragePoisoned, match="write"):
        append(log)


def test_a_full_disk_refuses_once_and_the_batch_may_be_tried_again(opened: Opener) -> None:
    log = opened("faulty+sqlite://{}/a.db?full_at=2").log(identity())
    append(log)
    with pytest.raises(StorageFull, match="commit 2 finds no space"):
        append(log)
    append(log, 3)
    assert log.last().index == 4


def test_what_is_refused_for_itself_or_writes_nothing_is_not_counted(opened: Opener) -> None:
    log = opened("faulty+memory://?fail_sync_at=2").log(identity())
    append(log)
    for _ in range(3):
        log.write(WriteBatch())
        with pytest.raises(InvalidBatch):
            log.append(entries(1))  # there is a first entry
    with pytest.raises(StoragePoisoned, match="commit 2"):
        append(log)


def test_without_options_nothing_happens(opened: Opener) -> None:
    log = opened("faulty+memory://").log(identity())
    append(log, 20)
    assert log.last().index == 20


# -- slow and full -----------------------------------------------------------------------------------


async def test_a_slow_disk_takes_its_time_on_the_writer_thread(opened: Opener) -> None:
    writer = Writer(opened("slow+memory://?delay=150ms"))
    log = await writer.call(lambda: writer.environment.log(identity()))
    written = asyncio.Event()
    started = time.monotonic()
    writer.write(log, WriteBatch(entries=entries(1)), lambda error: written.set())
    turns = 0
    while not written.is_set():
        turns += 1
        await asyncio.sleep(0.001)
    assert time.monotonic() - started >= 0.15
    assert turns > 10  # a loop that waited would have had one
    await writer.close()


def test_a_full_disk_stays_full_until_it_is_closed(opened: Opener) -> None:
    url = "full+lmdb://{}/a?after=1KiB"
    environment = opened(url)
    log = environment.log(identity())
    with pytest.raises(StorageFull):
        append(log, 100)
    held = log.get_range(1, 100)
    assert 0 < sum(len(entry.sealed) for entry in held) <= 1024
    with pytest.raises(StorageFull):
        log.write(WriteBatch(hard_state=hard_state(log, term=9)))
    assert environment.poisoned is None
    environment.close()
    log = opened(url).log(identity())
    assert log.get_range(1, 100) == held
    append(log)


# -- tee ---------------------------------------------------------------------------------------------

TEE = "tee+lmdb://{0}/a?second=sqlite%3A//{0}/b.db"


def test_two_equal_stores_answer_as_one(opened: Opener) -> None:
    environment = opened(TEE)
    log = environment.log(identity())
    log.write(WriteBatch(hard_state=hard_state(log, term=1), entries=entries(5)))
    log.truncate(4)
    log.prune_prefix(1)
    with pytest.raises(InvalidBatch):
        log.append(entries(1))
    assert [entry.index for entry in log.get_range(1, 9)] == [2, 3]
    environment.verify(log)
    environment.close()
    for url in ("lmdb://{}/a", "sqlite://{}/b.db"):
        alone = opened(url).log(identity())
        assert (alone.hard_state.term, alone.anchor.index, alone.tail.index) == (1, 1, 3)


def test_a_store_that_was_changed_on_its_own_is_noticed_at_opening(opened: Opener) -> None:
    environment = opened(TEE)
    append(environment.log(identity()), 3)
    environment.close()
    alone = opened("sqlite://{}/b.db")
    append(alone.log(identity()))
    alone.close()
    environment = opened(TEE)
    with pytest.raises(Difference, match=r"differ in log \w+ at index 4: tail gives .*3.* and .*4"):
        environment.log(identity())
    with pytest.raises(StoragePoisoned):
        environment.logs()
    for url in ("lmdb://{}/a", "sqlite://{}/b.db"):  # neither is locked any more
        opened(url).close()


class Lying(WrappedEnvironment):
    """Planted: the fifth entry is not what was written, and the sixth is refused."""

    def __init__(self, inner: StorageEnvironment) -> None:
        super().__init__("lying", inner)

    def log(self, identity: Any, decode: Any = None) -> Storage[Any]:
        return LyingLog(self, self.inner.log(identity, decode))

    def write(self, batches: Any) -> None:
        if any(entry.index == 6 for _, batch in batches for entry in batch.entries):
            raise StorageFull("no room for the sixth")
        super().write(batches)


class LyingLog(WrappedStorage[Any]):
    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[Any]]:
        found = super().get_range(first, last, limit=limit)
        other = entries(5, size=17)[4]
        return [other if entry.index == 5 else entry for entry in found]


@pytest.fixture
def lied_to() -> Iterator[TeeEnvironment]:
    environment = TeeEnvironment(
        open_storage("memory", peer=PEER), Lying(open_storage("memory", peer=PEER))
    )
    with environment:
        yield environment


def test_an_answer_that_differs_is_named_with_both(lied_to: TeeEnvironment) -> None:
    log = lied_to.log(identity())
    log.append(entries(5))
    assert len(log.get_range(1, 4)) == 4
    with pytest.raises(Difference) as caught:
        log.get_range(2, 5)
    found = caught.value
    assert (found.log, found.index) == (identity().group, 5)
    assert found.question == "get_range(2, 5, limit=None)"
    assert found.first == entries(5)[1:]
    assert isinstance(found.second, list)
    assert lied_to.poisoned is found
    with pytest.raises(StoragePoisoned):
        log.get(1)


def test_a_batch_that_only_one_takes_is_named_with_both(lied_to: TeeEnvironment) -> None:
    log = lied_to.log(identity())
    log.append(entries(5))
    with pytest.raises(Difference, match=r"commit\(\) gives None .* and StorageFull\('no room"):
        append(log)


def test_a_tee_needs_two_stores(opened: Opener, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name two"):
        opened("tee+lmdb://{0}/a?second=lmdb://{0}/a")
    with pytest.raises(ConfigError, match="needs the option 'second'"):
        opened("tee+lmdb://{}/a")
    tmp_path.joinpath("file").write_text("in the way")
    with pytest.raises(StorageUnavailable):
        opened("tee+lmdb://{0}/a?second=lmdb://{0}/file/b")
    opened("lmdb://{}/a")  # which is not locked


# -- any wrapper -------------------------------------------------------------------------------------


def test_options_belong_to_the_wrapper_or_to_the_store_behind(opened: Opener) -> None:
    store = opened("slow+faulty+lmdb://{}/a?map_size=1MiB&fail_sync_at=2&delay=1ms")
    described = store.describe()
    assert described.settings["map_size"] == str(1 << 20)
    assert described.url.startswith("slow+faulty+lmdb://")
    log = store.log(identity())
    append(log)
    with pytest.raises(StoragePoisoned, match="commit 2"):
        append(log)
    with pytest.raises(StoragePoisoned):
        log.get(1)


def test_a_bare_name_is_in_the_data_directory(opened: Opener, tmp_path: Path) -> None:
    append(opened("faulty+sqlite", data_dir=tmp_path).log(identity()))
    assert tmp_path.joinpath("sqlite.db").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("faulty+sqlite:///x.db?fail_sink_at=1", r"faulty\+sqlite .*did you mean fail_sync_at"),
        ("faulty+sqlite:///x.db?synk=os", r"faulty\+sqlite .*did you mean sync"),
        ("faulty+sqlite:///x.db?fail_sync_at=soon", "is not right"),
        ("faulty+sqlite:///x.db?fail_sync_at=-1", "is not right"),
        ("faulty+sqlite:///x.db?sync=never", "is not right"),
        ("slow+sqlite:///x.db?delay=long", "not a length of time such as"),
        ("slow+sqlite:///x.db", "needs the option 'delay'"),
        ("faulty", r"say of which, as in faulty\+sqlite"),
        ("faulty+:///x.db", "say of which"),
        ("faulty++sqlite:///x.db", "no other"),
        ("sqlite+lmdb:///x", "sqlite storage wraps no other"),
        ("faulty+slow:///x.db?delay=1", "slow storage stands in front of another"),
    ],
)
def test_a_wrong_url_is_explained_before_anything_is_opened(
    url: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_storage(url, peer=PEER, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UnknownScheme, match=r"'fualty'; .*did you mean faulty"):
        open_storage("fualty+memory://", peer=PEER)
    with pytest.raises(UnknownScheme, match=r"'memori'; .*did you mean memory"):
        open_storage("faulty+memori://", peer=PEER)


def test_too_many_open_files_are_no_lasting_harm(tmp_path: Path) -> None:
    """What could not be looked up for want of a descriptor is looked up again."""
    program = f"""
import os, resource
from mosaik.primitives.errors import StorageError
from mosaik.storage import open_storage
free = os.dup(0)
os.close(free)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for room in range(64):
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
    try:
        open_storage("slow+lmdb://{tmp_path}/a?delay=0", peer=bytes(32)).close()
        print(room)
        break
    except StorageError:
        pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 0 < int(done.stdout or 0) < 63, done.stderr


def test_two_openings_share_the_wrapper_and_what_it_wraps(opened: Opener) -> None:
    url = "faulty+sqlite://{}/a.db?fail_sync_at=3"
    one, other, direct = opened(url), opened(url), opened("sqlite://{}/a.db")
    assert one.shared is other.shared
    assert isinstance(one.shared, FaultyEnvironment)
    inner = one.shared.inner
    assert isinstance(inner, SharedEnvironment)
    assert inner.shared is direct.shared
    assert one.key == other.key != direct.key
    append(one.log(identity("a")))
    append(other.log(identity("b")))
    append(direct.log(identity("c")))  # does not pass the wrapper, and is not counted
    with pytest.raises(StoragePoisoned):
        append(other.log(identity("b")))
    with pytest.raises(StoragePoisoned):
        one.log(identity("a"))
    append(direct.log(identity("c")))
    opened(url)
    with pytest.raises(ConfigError, match="fail_sync_at=3 there and fail_sync_at=4 here"):
        opened("faulty+sqlite://{}/a.db?fail_sync_at=4")


def test_after_closing_nothing_is_served(opened: Opener) -> None:
    environment = opened("faulty+memory://")
    log = environment.log(identity())
    append(log)
    environment.close()
    uses: list[Callable[[], object]] = [lambda: log.get(1), lambda: append(log)]
    for use in uses:
        with pytest.raises(StorageClosed):
            use()


def test_a_log_of_another_store_is_refused(opened: Opener) -> None:
    one, other = opened("faulty+memory://"), opened("faulty+memory://")
    log = other.log(identity())
    with pytest.raises(InvalidBatch, match="not a log of this store"):
        one.commit([(log, WriteBatch(entries=entries(1)))])


def test_wrappers_are_listed_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(faulty, WrapperPlugin)
    marked = {each.scheme for each in list_backends() if each.wraps}
    assert marked >= {"faulty", "slow", "full", "tee"}
    assert "sqlite" not in marked
    assert main(["storage", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["faulty"].endswith("wraps another")
    assert "wraps" not in lines["sqlite"]


FUNCTIONAL = rules(Mark.FUNCTIONAL)
WRAPPED = "slow+faulty+full+lmdb://{place}/a?delay=0&after=1GiB"
TEED = "tee+lmdb://{place}/a?second=sqlite%3A//{place}/b.db"


@pytest.mark.parametrize("rule", FUNCTIONAL, ids=[rule.id for rule in FUNCTIONAL])
@pytest.mark.parametrize("url", [WRAPPED, TEED], ids=["wrapped", "tee"])
def test_a_wrapped_store_keeps_the_contract(rule: Rule, url: str) -> None:
    result = try_rule(rule, Subject(url))
    if (rule.id, url) == ("ERR-08", TEED):
        # Of the two only one has a map that can be full: that is a difference.
        assert "Difference: two stores differ" in result.detail
        return
    assert result.outcome in {Outcome.KEPT, Outcome.NOT_APPLICABLE}, result.detail


# -- in a group --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fail_sync_at", "fail_write_at", "full_at"])
async def test_a_replica_whose_store_failed_opens_it_again_and_goes_on(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"faulty+sqlite://{tmp_path}/raft.db?{fault}=8"
    async with Network("test", data_dir=tmp_path / "node") as network, join(network, url) as group:
        await group.when().online()
        peer = network.peer
        done = unknown = 0
        for _ in range(30):
            try:
                await group.execute(Counter.Increment(1))
                done += 1
            except Offline:  # certainly not done
                await group.when().online()
            except OutcomeUnknown:
                unknown += 1
                await group.when().online()
        assert done >= 28
        assert done <= await group.query(Counter.Value()) <= done + unknown
    failed = [each for each in caplog.messages if "the store failed (1 of 3)" in each]
    assert len(failed) == (fault != "full_at")
    store = open_storage(url, peer=peer)
    (identity_,) = store.logs()
    assert store.log(identity_).last().index >= done
    store.close()


async def test_three_nodes_agree_though_each_of_their_disks_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    nodes = [await world.node() for _ in range(3)]
    faults = ["fail_sync_at=10", "fail_write_at=14", "full_at=12"]
    groups = [
        (
            node.groups.with_key(KEY)
            .with_state_machine(Counter())
            .with_log_storage(f"faulty+lmdb://{tmp_path}/{number}?{fault}")
            .with_consensus_config(fast(bootstrap_expect=3))
            .join()
        )
        for number, (node, fault) in enumerate(zip(nodes, faults, strict=True))
    ]
    await settle(groups)
    done = unknown = 0
    for number in range(60):
        try:
            await groups[number % 3].execute(Counter.Increment(1))
            done += 1
        except Offline:
            await settle(groups)
        except OutcomeUnknown:
            unknown += 1
            await settle(groups)
    await settle(groups)
    values = {await group.query(Counter.Value(), Consistency.STRONG) for group in groups}
    assert len(values) == 1
    assert done <= values.pop() <= done + unknown
    assert sum("the store failed (1 of 3)" in each for each in caplog.messages) == 2
    await close_all(groups)
    await world.close()
