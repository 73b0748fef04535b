"""Raft as a pure function of its inputs, with mosaik's membership (``docs/consensus.md``).

No clock, no chance of its own, no I/O: time, randomness and messages are arguments.
"""

from mosaik.consensus.effects import (
    LAST_VOTER,
    Accepted,
    Done,
    Effects,
    Event,
    Fetch,
    Notice,
    Outgoing,
    ReadReady,
    Refused,
    View,
    Write,
)
from mosaik.consensus.inputs import (
    Bonded,
    Fetched,
    Input,
    Leave,
    Persisted,
    Read,
    Received,
    Recovered,
    Submit,
    Transfer,
    Unbonded,
)
from mosaik.consensus.messages import Envelope, envelope_codec
from mosaik.consensus.parameters import Parameters
from mosaik.consensus.step import Consensus

__all__ = [
    "LAST_VOTER",
    "Accepted",
    "Bonded",
    "Consensus",
    "Done",
    "Effects",
    "Envelope",
    "Event",
    "Fetch",
    "Fetched",
    "Input",
    "Leave",
    "Notice",
    "Outgoing",
    "Parameters",
    "Persisted",
    "Read",
    "ReadReady",
    "Received",
    "Recovered",
    "Refused",
    "Submit",
    "Transfer",
    "Unbonded",
    "View",
    "Write",
    "envelope_codec",
]
