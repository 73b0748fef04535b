"""The verdicts of others on histories that others recorded."""

from __future__ import annotations

import os

import pytest

from mosaik.testing.linearizability import Operation, Register, check_linearizable
from tests.linearizability.recorded import data, read_jepsen, read_kv, verdicts

VERDICTS = verdicts()


def test_the_histories_are_here_where_they_have_to_be() -> None:
    if data() is None:
        assert "shared-data" not in os.environ.get("MOSAIK_REQUIRE", "").split(",")
        pytest.skip("the recorded histories are not on this machine; MOSAIK_SHARED_DATA names them")
    assert len(VERDICTS) >= 65
    assert set(VERDICTS.values()) == {True, False}


@pytest.mark.parametrize("path", VERDICTS, ids=lambda path: path.name)
def test_the_verdict_is_right(path: object) -> None:
    (found,) = [each for each in VERDICTS if each == path]
    jepsen = found.parent.name == "jepsen"
    operations: list[Operation] = (read_jepsen if jepsen else read_kv)(found)
    assert len(operations) > 20
    failures = check_linearizable(operations, Register() if jepsen else Register(""))
    assert (not failures) == VERDICTS[found], "\n".join(map(str, failures))
