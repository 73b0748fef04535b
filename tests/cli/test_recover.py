"""``mosaik recover``: the store that goes on, what is lost, and that it can be interrupted and done again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mosaik.cli import main
from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import ConfigError, StorageMismatch
from mosaik.primitives.membership import (
    Configuration,
    Member,
    Replica,
    Role,
    configuration_codec,
)
from mosaik.storage import open_storage, recovery
from mosaik.storage.recovery import apply_plan, make_plan, plan_from_bytes, plan_to_bytes
from mosaik.storage.sql import SqliteEngine
from tests.cli.stores import said
from tests.storage.stores import require
from tests.storage.support import entries, identity

Capsys = pytest.CaptureFixture[str]
HISTORY = b"h" * 32


def replica(number: int) -> Replica:
    return Replica(bytes([number]) * 32, bytes([number]) * 16, 0)


def url_of(directory: Path, number: int) -> str:
    return f"sqlite://{directory}/{number}.db"


def survivor(
    directory: Path,
    number: int,
    *,
    voters: Sequence[int] = (1, 2, 3),
    count: int = 100,
    term: int = 2,
    **changes: Any,
) -> str:
    """The URL of a closed store with a log of so many entries, the last ones of a term."""
    require("sqlite")
    me, url = replica(number), url_of(directory, number)
    members = Configuration(tuple(Member(replica(each), Role.VOTER) for each in voters))
    first = seal(EntryKind.CONFIG, 1, 1, 7, configuration_codec.encode(members), 0)
    second = seal(EntryKind.FOUNDED, 2, 1, 7, b"", first.checksum)
    run: list[Entry[Any]] = [first, second]
    end = Anchor(1, 2, second.checksum)
    run += entries(count - 2, after=end, term=term, size=50, time_ms=8)
    hard = HardState(
        term=term,
        store=me.store,
        history=HISTORY,
        configs=(1,),
        founded=2,
        first_command=3,
    )
    hard = msgspec.structs.replace(hard, **changes)
    with closing(open_storage(url, peer=me.peer)) as environment:
        log = environment.log(identity(peer=me.peer))
        log.write(WriteBatch(hard_state=hard, reset_to=Anchor(), entries=run))
    return url


def contents(url: str, number: int) -> tuple[HardState, list[Entry[Any]]]:
    peer = replica(number).peer
    with closing(open_storage(url, peer=peer)) as environment:
        log = environment.log(identity(peer=peer))
        assert log.suspect is None
        return log.hard_state, log.get_range(1, log.tail.index)


# -- planning ---------------------------------------------------------------------------------------


def test_the_newest_end_goes_on_and_what_may_be_lost_is_said(
    tmp_path: Path, capsys: Capsys
) -> None:
    voters = (1, 2, 3, 4, 5)
    urls = [
        survivor(tmp_path, 1, voters=voters, count=200, term=2),
        survivor(tmp_path, 2, voters=voters, count=150, term=3),
    ]
    output = tmp_path / "plan.json"
    status = main(["recover", "plan", *urls, "-o", str(output)])
    out = capsys.readouterr().out
    assert status == 0
    assert "COMMANDS MAY BE LOST" in out
    assert "lost voters: 0303030303/030303, 0404040404/040404, 0505050505/050505" in out
    plan = plan_from_bytes(output.read_bytes())
    assert plan.chosen == urls[1], "a higher term beats a longer log"
    assert [each.voter for each in plan.survivors] == [True, True]
    assert not plan.complete
    status = main(["recover", "plan", *urls, "-o", str(output)])
    assert status == 1, "nothing is written over"
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("voters", [(1, 2), (1, 2, 3, 4)])
def test_half_of_the_voters_hold_everything(tmp_path: Path, voters: tuple[int, ...]) -> None:
    left = voters[: len(voters) // 2]
    plan = make_plan([survivor(tmp_path, number, voters=voters) for number in left])
    assert plan.complete
    assert len(plan.lost) == len(voters) - len(left)


def test_a_majority_needs_no_recovery(tmp_path: Path) -> None:
    urls = [survivor(tmp_path, number) for number in (1, 2)]
    with pytest.raises(ConfigError, match="2 of 3 voters are left, which is a majority: start"):
        make_plan(urls)


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"quarantine": True}, "it is quarantined"),
        ({"founded": 0}, "was never founded"),
        ({"dissolve": 2}, "was being dissolved"),
    ],
)
def test_one_that_cannot_answer_for_itself_is_not_chosen_and_does_not_count(
    tmp_path: Path, changes: dict[str, Any], trouble: str
) -> None:
    urls = [survivor(tmp_path, 1, count=50), survivor(tmp_path, 2, **changes)]
    plan = make_plan(urls)
    assert plan.chosen == urls[0]
    assert trouble in plan.survivors[1].trouble
    with pytest.raises(ConfigError, match=f"none of these logs can go on.*{trouble}"):
        make_plan(urls[1:])


def test_a_learner_s_log_may_go_on(tmp_path: Path) -> None:
    plan = make_plan([survivor(tmp_path, 9)])
    assert not plan.survivors[0].voter
    assert len(plan.lost) == 3


def test_stores_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one = survivor(tmp_path, 1)
    other = survivor(tmp_path, 2, history=b"o" * 32)
    with pytest.raises(ConfigError, match="logs of 2 histories"):
        make_plan([one, other])
    with pytest.raises(ConfigError, match="two of these are one replica"):
        make_plan([one, one])


# -- applying ---------------------------------------------------------------------------------------


def test_the_chosen_log_begins_a_new_history_and_the_other_is_emptied(
    tmp_path: Path, capsys: Capsys
) -> None:
    voters = (1, 2, 3, 4, 5)
    chosen, other = (
        survivor(tmp_path, 1, voters=voters, count=200),
        survivor(tmp_path, 2, voters=voters),
    )
    _, before = contents(chosen, 1)
    file = str(tmp_path / "plan.json")
    planned = said(capsys, "recover", "plan", chosen, other, "-o", file)
    assert planned["chosen"] == chosen
    found = said(capsys, "recover", "apply", file, chosen, "--yes")
    assert found == {"url": chosen, "goes_on": True, "done_before": False}
    hard, after = contents(chosen, 1)
    assert after[:-1] == before, "every command stays as it was"
    assert after[-1].kind is EntryKind.CONFIG
    (member,) = configuration_codec.decode(after[-1].payload).members
    assert member.role is Role.VOTER
    assert member.replica == Replica(replica(1).peer, bytes.fromhex(planned["new_store"]), 0)
    assert hard.history not in {HISTORY, b""}
    assert hard.configs[-1] == after[-1].index
    assert hard.voted_for is None
    found = said(capsys, "recover", "apply", file, other, "--yes")
    assert found == {"url": other, "goes_on": False, "done_before": False}
    assert contents(other, 2)[1] == []
    for url in (chosen, other):
        assert said(capsys, "recover", "apply", file, url, "--yes")["done_before"]
    assert contents(chosen, 1) == (hard, after)


def test_nothing_is_done_without_the_word(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = survivor(tmp_path, 1)
    before = contents(url, 1)
    file = tmp_path / "plan.json"
    file.write_bytes(plan_to_bytes(make_plan([url])))

    def typed(*_: object, **__: object) -> str:
        return "yes"

    monkeypatch.setattr("click.prompt", typed)
    assert main(["recover", "apply", str(file), url]) == 1
    said_to_people = capsys.readouterr().err
    assert "is lost for good" in said_to_people
    assert "nothing was done" in said_to_people
    assert contents(url, 1) == before


def test_a_store_that_went_on_since_is_left_alone(tmp_path: Path) -> None:
    chosen = survivor(tmp_path, 1, count=50)
    plan = make_plan([chosen])
    with closing(open_storage(chosen, peer=replica(1).peer)) as environment:
        log = environment.log(identity(peer=replica(1).peer))
        log.append(entries(1, after=log.tail, term=2, time_ms=9))
    before = contents(chosen, 1)
    with pytest.raises(StorageMismatch, match="a node ran on it since"):
        apply_plan(plan, chosen)
    assert contents(chosen, 1) == before
    with pytest.raises(ConfigError, match="does not speak of"):
        apply_plan(plan, url_of(tmp_path, 2))


def test_the_planted_bug_that_does_not_compare_would_lose_a_command(tmp_path: Path) -> None:
    """An emptied store that has gone on: what it acknowledged since would be gone."""
    urls = [survivor(tmp_path, 1, voters=(1, 2, 3, 4, 5), count=50)]
    urls.append(survivor(tmp_path, 2, voters=(1, 2, 3, 4, 5), count=40))
    plan = make_plan(urls)
    peer = replica(2).peer
    with closing(open_storage(urls[1], peer=peer)) as environment:
        log = environment.log(identity(peer=peer))
        log.append(entries(20, after=log.tail, term=2, time_ms=9))

    def unchecked(*_: object) -> None:
        """Whatever the store is now."""

    with pytest.raises(StorageMismatch):
        apply_plan(plan, urls[1])
    assert len(contents(urls[1], 2)[1]) == 60
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "_require_unchanged", unchecked)
        assert apply_plan(plan, urls[1])
    assert contents(urls[1], 2)[1] == []


@pytest.mark.parametrize("lands", [False, True])
def test_it_can_be_interrupted_at_its_only_write(tmp_path: Path, lands: bool) -> None:
    """Before the transaction nothing has happened; after it everything has."""
    url = survivor(tmp_path, 1)
    before = contents(url, 1)
    plan = make_plan([url])
    commit, writes = SqliteEngine.commit, 0

    def dies(engine: SqliteEngine, changes: Any) -> None:
        nonlocal writes
        writes += 1
        if lands:
            commit(engine, changes)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteEngine, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            apply_plan(plan, url)
    assert writes == 1
    if not lands:
        assert contents(url, 1) == before
    assert apply_plan(plan, url) is not lands
    hard, after = contents(url, 1)
    assert hard.store.hex() == plan.new_store
    assert after[:-1] == before[1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not a plan"),
        (b"{}", "not a plan"),
        (b"x" * (2 << 20), "the limit is"),
    ],
)
def test_what_is_no_plan_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        plan_from_bytes(text)


def test_a_newer_plan_is_refused(tmp_path: Path) -> None:
    plan = json.loads(plan_to_bytes(make_plan([survivor(tmp_path, 1)])))
    assert plan_from_bytes(json.dumps(plan).encode()).version == 1
    plan["version"] = 2
    with pytest.raises(ConfigError, match="a plan of version 2"):
        plan_from_bytes(json.dumps(plan).encode())
