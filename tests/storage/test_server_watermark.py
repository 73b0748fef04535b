"""What a node remembers of a store on a server, so that it sees when the server has forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.errors import CorruptEntry
from mosaik.storage import StorageEnvironment, open_storage
from mosaik.testing.storage.subject import PEER
from tests.storage.support import entries, identity

pytest.importorskip("sqlalchemy")

from tests.storage.servers import ServerSubject


class Node:
    """A node that keeps its store on a server.

    Args:
        subject: the server.
        place: names the store, and is the node's data directory.
    """

    def __init__(self, subject: ServerSubject, place: Path) -> None:
        self.subject = subject
        self.url = subject.url(place)
        self.place = place

    def open(self, *, remembers: bool = True) -> StorageEnvironment:
        data_dir = self.place if remembers else None
        return open_storage(self.url, peer=PEER, data_dir=data_dir)

    def writes(self, *, remembers: bool = True) -> int:
        """Appends an entry as large as a row; answers how many there are."""
        environment = self.open(remembers=remembers)
        log = environment.log(identity(peer=PEER))
        log.append(entries(1, log.tail, size=70_000))
        environment.close()
        return log.tail.index

    def last(self, *, remembers: bool = True) -> int:
        environment = self.open(remembers=remembers)
        try:
            return environment.log(identity(peer=PEER)).last().index
        finally:
            environment.close()

    def say(self, statement: str, **values: Any) -> Any:
        """To the rows of this node's store alone."""
        number = self.subject.number_of(self.place)
        low = number.to_bytes(4, "big")
        return self.subject.say(
            statement, low=low, high=low + b"\xff" * 32, number=number, **values
        )

    def loses(self, index: int) -> None:
        """As a standby that lags: it has the opening, and not the last entries."""
        self.say(
            "DELETE FROM mosaik_rows WHERE log BETWEEN :low AND :high AND first >= :index",
            index=index,
        )


@pytest.fixture
def node(subject: ServerSubject, tmp_path: Path) -> Node:
    return Node(subject, tmp_path)


def test_entries_that_the_server_lost_are_missed_every_time(node: Node) -> None:
    for _ in range(3):
        node.writes()
    node.loses(3)
    for _ in range(3):
        with pytest.raises(CorruptEntry, match="3 entries were acknowledged"):
            node.last()
    assert node.last(remembers=False) == 2  # whoever remembers nothing cannot see it


def test_what_one_opening_acknowledged_is_remembered_by_the_next(node: Node) -> None:
    """The first opening made the store, so there was nothing to compare with."""
    assert node.writes() == 1
    node.loses(1)
    with pytest.raises(CorruptEntry, match="1 entries were acknowledged"):
        node.last()


def test_a_server_of_an_earlier_time_is_refused_every_time(node: Node) -> None:
    """It was opened three times since its backup was made."""
    for _ in range(4):
        node.writes()
    node.say("UPDATE mosaik_stores SET epoch = epoch - 3 WHERE number = :number")
    for _ in range(5):
        with pytest.raises(CorruptEntry, match=r"of an earlier time .* `mosaik log reset`"):
            node.last()
    [notes] = node.place.glob("*.watermark")
    notes.unlink()
    assert node.writes() == 5


def test_an_emptied_server_is_refused(node: Node) -> None:
    node.writes()
    node.writes()
    node.say("DELETE FROM mosaik_rows WHERE log BETWEEN :low AND :high")
    node.say("DELETE FROM mosaik_meta WHERE log BETWEEN :low AND :high")
    node.say("DELETE FROM mosaik_stores WHERE number = :number")
    with pytest.raises(CorruptEntry, match="of an earlier time"):
        node.last()


def test_a_store_that_lost_its_own_records_is_refused_every_time(node: Node) -> None:
    node.writes()
    node.say("DELETE FROM mosaik_meta WHERE log BETWEEN :low AND :high")
    for _ in range(3):
        with pytest.raises(CorruptEntry, match="the store is empty, but its watermark"):
            node.last()


def test_whoever_else_opened_it_is_believed(node: Node) -> None:
    """A tool, or the node itself on another machine: what it left is no loss."""
    for _ in range(3):
        node.writes()
    environment = node.open(remembers=False)
    environment.log(identity(peer=PEER)).truncate(2)
    environment.close()
    assert node.last() == 1
    assert node.writes() == 2
    node.loses(2)
    with pytest.raises(CorruptEntry, match="2 entries were acknowledged"):
        node.last()


def test_a_truncation_is_no_loss(node: Node) -> None:
    for _ in range(3):
        node.writes()
    environment = node.open()
    environment.log(identity(peer=PEER)).truncate(2)
    environment.close()
    assert node.last() == 1


def test_without_a_data_directory_there_is_nothing_to_remember(node: Node) -> None:
    node.writes(remembers=False)
    assert not list(node.place.iterdir())
