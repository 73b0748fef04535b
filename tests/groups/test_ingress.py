"""What members forward is bounded: in commands and in bytes, waiting and in one turn."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mosaik.groups import ingress
from mosaik.groups.bond import Bond
from mosaik.groups.ingress import Ingress
from mosaik.groups.wire import Forward, ForwardRefused


class FakeBond:
    is_terminated = False

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def arrive(to: Ingress, bond: FakeBond, *sizes: int, count: int = 1) -> None:
    for token, size in enumerate(sizes):
        to.arrived(cast("Bond", bond), Forward(token, 1, (bytes(size),) * count))


def test_a_turn_takes_so_many_bytes_and_at_least_one_message() -> None:
    waiting, bond = Ingress(), FakeBond()
    half = ingress._BYTES_PER_TURN // 2
    arrive(waiting, bond, half, half, 1, 3 * half, 1)
    sizes = [[len(f.payloads[0]) for _, f in waiting.admit(1)] for _ in range(3)]
    assert sizes == [[half, half], [1], [3 * half]]
    assert waiting.waiting


def test_a_turn_takes_so_many_commands() -> None:
    waiting, bond = Ingress(), FakeBond()
    arrive(waiting, bond, 1, 1, 1, count=ingress._PER_TURN // 2)
    assert [len(waiting.admit(1)) for _ in range(2)] == [2, 1]
    assert not waiting.waiting


@pytest.mark.parametrize(("limit", "value"), [("_MOST_WAITING", 4), ("_MOST_BYTES", 400)])
def test_a_member_that_gives_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(ingress, limit, value)
    waiting, bond = Ingress(), FakeBond()
    arrive(waiting, bond, 100, 100, 100, 100, 100)
    assert bond.sent == [ForwardRefused(4, "the leader has too much to do")]
    assert len(waiting.admit(1)) == 4
    arrive(waiting, bond, 100)  # what was admitted makes room
    assert len(bond.sent) == 1
