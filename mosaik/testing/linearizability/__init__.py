"""Checks histories of concurrent operations: could one server that does one thing at a time answer so?"""

from __future__ import annotations

from mosaik.testing.linearizability.checker import (
    Failure,
    NotLinearizable,
    assert_linearizable,
    check_linearizable,
)
from mosaik.testing.linearizability.history import UNKNOWN, History, Operation
from mosaik.testing.linearizability.map import MapEntry
from mosaik.testing.linearizability.model import (
    ABSENT,
    REFUSED,
    Append,
    CompareExchange,
    Model,
    Read,
    Register,
    Write,
)
from mosaik.testing.linearizability.telling import Vacuous, require_telling, with_stale_read

__all__ = [
    "ABSENT",
    "REFUSED",
    "UNKNOWN",
    "Append",
    "CompareExchange",
    "Failure",
    "History",
    "MapEntry",
    "Model",
    "NotLinearizable",
    "Operation",
    "Read",
    "Register",
    "Vacuous",
    "Write",
    "assert_linearizable",
    "check_linearizable",
    "require_telling",
    "with_stale_read",
]
