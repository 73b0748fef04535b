"""Consensus groups: how they are joined, asked and awaited."""

from mosaik.groups.bond import Bond, Bonds, Ending
from mosaik.groups.builder import KeyStage, MachineStage, StorageStage
from mosaik.groups.call import AppliedRange
from mosaik.groups.config import (
    ConsensusConfig,
    GroupConfig,
    LeadershipPreference,
    Normal,
    Observer,
    Reluctant,
    TicketValidator,
)
from mosaik.groups.group import Group
from mosaik.groups.groups import Groups
from mosaik.groups.inspection import GroupReport, LogReport, MemberReport
from mosaik.groups.key import GroupKey
from mosaik.groups.outcome import Consistency, Pending
from mosaik.groups.session import Session
from mosaik.groups.when import When

__all__ = [
    "AppliedRange",
    "Bond",
    "Bonds",
    "Consistency",
    "ConsensusConfig",
    "Ending",
    "Group",
    "GroupConfig",
    "GroupKey",
    "GroupReport",
    "Groups",
    "KeyStage",
    "LeadershipPreference",
    "LogReport",
    "MachineStage",
    "MemberReport",
    "Normal",
    "Observer",
    "Pending",
    "Reluctant",
    "Session",
    "StorageStage",
    "TicketValidator",
    "When",
]
