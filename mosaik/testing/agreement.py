"""Whether the replicas' machines came to the same, and where they parted if not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mosaik.testing.cluster import Cluster
from mosaik.testing.trail import Step, read_trail

__all__ = ["ReplicasDiffer", "assert_replicas_agree", "first_difference"]


class ReplicasDiffer(AssertionError):
    """The same commands led to different states.

    Attributes:
        index: the first entry after which they differ.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


async def assert_replicas_agree(cluster: Cluster) -> int:
    """Waits until every running node has applied what any of them has, and compares their trails.

    Args:
        cluster: made with ``instrumented=True``, as the fixture ``cluster`` is.

    Returns:
        How many commands were compared.

    Raises:
        ReplicasDiffer: at the first entry after which two of them differ. ValueError: there is nothing to
            compare.
    """
    running = [node for node in cluster.nodes if node.running]
    states = await asyncio.gather(*(node.status() for node in running))
    last = max((int(state["committed"]) for state in states), default=0)
    await asyncio.gather(*(node.reaches(last) for node in running))
    trails = {node.name: await asyncio.to_thread(read_trail, node.data_dir) for node in running}
    first, *others = trails.values() or [dict[int, Step]()]
    compared = [index for index in first if all(index in other for other in others)]
    if len(trails) < 2 or not compared:
        raise ValueError(
            "there are no two nodes with commands to compare; start the cluster, give it some, and make "
            "it with instrumented=True"
        )
    found = first_difference(trails)
    if found is not None:
        raise found
    return len(compared)


def first_difference(trails: Mapping[str, Mapping[int, Step]]) -> ReplicasDiffer | None:
    """Where trails part; None when they agree as far as they go."""
    for index in sorted({index for trail in trails.values() for index in trail}):
        steps = {name: trail[index] for name, trail in trails.items() if index in trail}
        answers = {step.answered for step in steps.values()}
        states = {step.state for step in steps.values() if step.state}
        if len(answers) > 1 or len(states) > 1:
            command = next(iter(steps.values())).command
            said = [f"  {name} answered {step.answer}" for name, step in steps.items()]
            what = "the answers" if len(answers) > 1 else "the answers agree, and the states"
            lines = [
                f"the replicas part at entry {index}, {command}: {what} differ",
                *said,
                "apply() must depend on nothing but the state, the command and its context: no clock, no "
                "random numbers, no order of a set, nothing outside",
            ]
            return ReplicasDiffer(index, "\n".join(lines))
    return None
