"""Whether the replicas' machines came to the same, and where they parted if not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from mosaik.testing.cluster import Cluster, ClusterNode
from mosaik.testing.trail import Step, read_trail

__all__ = ["ReplicasDiffer", "assert_replicas_agree", "first_difference"]


class ReplicasDiffer(AssertionError):
    """The same commands led to different states.

    Attributes:
        index: the first entry after which they differ.
        parts: the parts of the state that differ there, such as attributes of the machine.
    """

    def __init__(self, index: int, parts: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.index = index
        self.parts = parts


async def assert_replicas_agree(nodes: Cluster | Iterable[ClusterNode]) -> int:
    """Waits until every running node has applied what any of them has, and compares their trails.

    Args:
        nodes: a cluster made with ``instrumented=True``, as the fixture ``cluster`` is, or some of its nodes.

    Returns:
        How many commands were compared.

    Raises:
        ReplicasDiffer: at the first entry after which two of them differ. ValueError: there is nothing to
            compare.
    """
    of = nodes.nodes if isinstance(nodes, Cluster) else nodes
    running = [node for node in of if node.running]
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
    agreed = 0
    for index in sorted({index for trail in trails.values() for index in trail}):
        steps = {name: trail[index] for name, trail in trails.items() if index in trail}
        parts = _parts_that_differ(steps.values())
        if parts or len({step.answered for step in steps.values()}) > 1:
            # Within a batch that a machine applied at once nothing is known of its state.
            first = min(
                (i for trail in trails.values() for i in trail if i > agreed), default=index
            )
            return ReplicasDiffer(index, parts, _message(index, steps, parts, first))
        if all(step.state is not None for step in steps.values()):
            agreed = index
    return None


def _parts_that_differ(steps: Iterable[Step]) -> list[str]:
    states = [step.state for step in steps if step.state is not None]
    names = dict.fromkeys(name for state in states for name in state)
    return [
        name
        for name in names
        if len({state[name].digest if name in state else "" for state in states}) > 1
    ]


def _message(index: int, steps: Mapping[str, Step], parts: Sequence[str], first: int) -> str:
    differ: list[str] = []
    if len({step.answered for step in steps.values()}) > 1:
        differ.append("the answers differ")
    elif parts:
        differ.append("the answers agree")
    if parts:
        differ.append(f"the states differ in {', '.join(parts)}")
    command = next(iter(steps.values())).command
    lines = [f"the replicas part at entry {index}, {command}: {', and '.join(differ)}"]
    for name, step in steps.items():
        lines.append(f"  {name} answered {step.answer}")
        state = step.state
        if state is not None:
            lines += [f"    {part} = {state[part].shown}" for part in parts if part in state]
    if first < index:
        lines.append(
            f"the machine applies commands in batches: they may have parted since entry {first}"
        )
    lines.append(
        "apply() must depend on nothing but the state, the command and its context: no clock, no random "
        "numbers, no order of a set, nothing outside"
    )
    return "\n".join(lines)
