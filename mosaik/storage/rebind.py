"""Moving a log to another identity: the cure when a group's parameters were changed on purpose.

A group's id is made of its key and its parameters, so a group with other parameters is another group, and
would begin anew. `rebind` carries the log over instead. It has to be done at every node, while the node is
stopped; a node where it was not done does not find the others.
"""

from __future__ import annotations

from mosaik.primitives.digest import short
from mosaik.primitives.errors import ConfigError
from mosaik.storage.closed import engine_of
from mosaik.storage.contract import LogIdentity, StorageEnvironment

__all__ = ["rebind"]


def rebind(environment: StorageEnvironment, identity: LogIdentity) -> LogIdentity:
    """Gives the log that has this identity's key the rest of this identity.

    Interrupted at any moment, the log is whole under the old identity or under the new one.

    Returns:
        The identity that it had; the given one when there is nothing to do.

    Raises:
        ConfigError: the store holds no log with this key, or it is of a kind that cannot do this.
        StorageMismatch: the store is another node's.
    """
    inner = engine_of(environment)
    for held in inner.logs():
        if held.key == identity.key:
            if held.group != identity.group:
                inner.move(held.group, identity)
            return held
    raise ConfigError(
        f"the store {inner.url} holds no log under this group key (its logs: "
        f"{', '.join(short(held.group) for held in inner.logs()) or 'none'})"
    )
