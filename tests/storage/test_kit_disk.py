"""The kit's model of a disk: what a power failure may leave, and what it may not."""

from __future__ import annotations

import random

import pytest

from mosaik.testing.storage.crash import crashes, extremes, sample
from mosaik.testing.storage.disk import SECTOR, Disk, Lasting, Moment, Node, Tree


class Clock:
    """Calls follow one another."""

    def __init__(self) -> None:
        self.now = 0

    def tick(self) -> int:
        self.now += 1
        return self.now


class Machine:
    """A disk and somebody who uses it."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.clock = Clock()

    @property
    def root(self) -> Node:
        return self.disk.nodes[0]

    def make(self, path: str, *, directory: bool = False) -> Node:
        return self.disk.make(path, f"make {path}", self.clock.tick(), directory=directory)

    def write(self, node: Node, at: int, data: bytes) -> int:
        return self.disk.write(node, at, data, f"write {at}", self.clock.tick()).number

    def sync(self, *nodes: Node, lasting: Lasting = Lasting.DURABLE) -> None:
        self.disk.sync(nodes, self.clock.tick(), lasting)

    def file(self, path: str, content: bytes) -> Node:
        """One that is on the disk."""
        node = self.make(path)
        self.write(node, 0, content)
        self.sync(node, self.root)
        return node


@pytest.fixture
def machine() -> Machine:
    return Machine()


def trees(moment: Moment, *, holes: bool = False) -> list[Tree]:
    return [crash.tree for crash in crashes([moment], random.Random(1), holes=holes)]


def test_a_file_is_absent_until_its_directory_is_synced(machine: Machine) -> None:
    node = machine.make("a")
    machine.write(node, 0, b"x")
    machine.sync(node)
    unsynced = machine.disk.note("")
    assert {} in trees(unsynced)
    assert {"a": b"x"} in trees(unsynced)
    assert not unsynced.certain("a")
    machine.sync(machine.root)
    synced = machine.disk.note("")
    assert trees(synced) == [{"a": b"x"}]
    assert synced.certain("a")


def test_what_a_directory_names_may_be_lost_with_its_own_name(machine: Machine) -> None:
    directory = machine.make("d", directory=True)
    node = machine.make("d/a")
    machine.write(node, 0, b"x")
    machine.sync(node, directory)
    assert trees(machine.disk.note("")) == [{}, {"d": None, "d/a": b"x"}]


def test_every_subset_of_a_few_writes_may_be_there(machine: Machine) -> None:
    node = machine.file("a", b"....")
    for at in range(3):
        machine.write(node, at, b"x")
    found = {tree["a"] for tree in trees(machine.disk.note(""))}
    every = {bytes(b"x"[0] if n >> at & 1 else b"."[0] for at in range(3)) + b"." for n in range(8)}
    assert found == every


def test_a_sync_covers_what_had_returned_before_it_began(machine: Machine) -> None:
    node = machine.file("a", b"..")
    machine.write(node, 0, b"x")
    began = machine.clock.tick()
    machine.write(node, 1, b"y")
    machine.disk.sync([node], began, Lasting.DURABLE)
    assert {tree["a"] for tree in trees(machine.disk.note(""))} == {b"x.", b"xy"}


def test_names_change_in_order(machine: Machine) -> None:
    machine.make("a")
    machine.make("b")
    assert trees(machine.disk.note("")) == [{}, {"a": b""}, {"a": b"", "b": b""}]


def test_a_rename_that_is_not_synced_may_not_have_happened(machine: Machine) -> None:
    machine.file("old", b"1")
    fresh = machine.make("new")
    machine.write(fresh, 0, b"2")
    machine.sync(fresh, machine.root)
    machine.disk.name([("new", None), ("old", fresh.number)], "rename", machine.clock.tick())
    moment = machine.disk.note("")
    assert trees(moment) == [{"old": b"1", "new": b"2"}, {"old": b"2"}]
    assert not moment.certain("old")


def test_a_rename_to_another_directory_is_in_both_or_in_neither(machine: Machine) -> None:
    directory = machine.make("d", directory=True)
    node = machine.file("a", b"x")
    machine.sync(directory)
    machine.disk.name([("a", None), ("d/a", node.number)], "rename", machine.clock.tick())
    assert trees(machine.disk.note("")) == [{"d": None, "a": b"x"}, {"d": None, "d/a": b"x"}]
    machine.sync(directory)
    assert trees(machine.disk.note("")) == [{"d": None, "d/a": b"x"}]


def test_a_file_grows_from_its_front_unless_there_may_be_holes(machine: Machine) -> None:
    node = machine.file("a", b"1")
    machine.write(node, 1, b"2")
    machine.write(node, 2, b"3")
    moment = machine.disk.note("")
    assert {tree["a"] for tree in trees(moment)} == {b"1", b"12", b"123"}
    assert {tree["a"] for tree in trees(moment, holes=True)} == {b"1", b"12", b"123", b"1\0003"}


def test_nothing_is_there_after_a_cut_that_is_not(machine: Machine) -> None:
    node = machine.file("a", b"123")
    machine.disk.resize(node, 0, "cut", machine.clock.tick())
    machine.write(node, 0, b"4")
    assert {tree["a"] for tree in trees(machine.disk.note(""))} == {b"123", b"", b"4"}


def test_no_later_sync_makes_good_for_one_that_failed(machine: Machine) -> None:
    node = machine.file("a", b"..")
    machine.write(node, 0, b"x")
    machine.sync(node, lasting=Lasting.DOUBTFUL)
    machine.sync(node)
    assert {tree["a"] for tree in trees(machine.disk.note(""))} == {b"..", b"x."}
    machine.write(node, 0, b"x")
    machine.sync(node)
    assert {tree["a"] for tree in trees(machine.disk.note(""))} == {b"x."}


def test_a_later_sync_of_a_directory_makes_good_for_one_that_failed(machine: Machine) -> None:
    machine.file("old", b"1")
    machine.disk.name([("old", None)], "unlink", machine.clock.tick())
    machine.sync(machine.root, lasting=Lasting.DOUBTFUL)
    assert trees(machine.disk.note("")) == [{"old": b"1"}, {}]
    machine.sync(machine.root)
    assert trees(machine.disk.note("")) == [{}]


def test_a_write_is_torn_at_the_sectors_of_its_file(machine: Machine) -> None:
    node = machine.file("a", bytes(3 * SECTOR))
    number = machine.write(node, 500, b"x" * 600)
    moment = machine.disk.note("")
    (change,) = moment.open
    assert change.sectors == [(0, 12), (12, 524), (524, 600)]
    found = moment.tree({number}, {number: {1}})["a"]
    assert found == bytes(SECTOR) + b"x" * SECTOR + bytes(SECTOR)


def test_what_is_never_synced_is_told_from_what_is(machine: Machine) -> None:
    node, notes = machine.file("a", b"1"), machine.make("notes")
    machine.sync(machine.root)
    machine.write(notes, 0, b"?")
    machine.write(node, 1, b"2")
    moment = machine.disk.note("")
    assert [change.nodes for change in moment.open] == [(node.number,)]
    assert [change.nodes for change in moment.careless] == [(notes.number,)]


def test_extremes_are_the_least_and_the_most(machine: Machine) -> None:
    node = machine.file("a", b"")
    for at in range(20):
        machine.write(node, at, b"x")
    moment = machine.disk.note("")
    assert [crash.tree["a"] for crash in extremes([moment])] == [b"", b"x" * 20]


def test_a_sample_takes_of_every_moment(machine: Machine) -> None:
    node = machine.file("a", b"." * 10)
    moments: list[Moment] = []
    for at in range(10):
        machine.write(node, at, b"x")
        moments.append(machine.disk.note(""))
    rng = random.Random(1)
    chosen = sample(crashes(moments, rng), 20, rng)
    assert [sum(crash.moment is moment for crash in chosen) for moment in moments] == [2] * 10
