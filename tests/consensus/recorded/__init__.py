"""Cases that others recorded, and what puts them to our core."""

from tests.consensus.recorded.blocks import Block, blocks, needed
from tests.consensus.recorded.changes import Case, State, Why, cases, chapters, wished
from tests.consensus.recorded.group import Group

__all__ = [
    "Block",
    "Case",
    "Group",
    "State",
    "Why",
    "blocks",
    "cases",
    "chapters",
    "needed",
    "wished",
]
