"""What a bug that is planted in a whole group is, and the list of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pytest

from mosaik.testing.simulation import Property

__all__ = ["BUGS", "Bug", "Plant", "bug"]

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """One planted bug.

    Attributes:
        name: what is wrong.
        plant: puts it in place.
        finds: the rules of which one has to notice it.
        seeds: within so many seeds.
        faults: that happen more often than a seed draws them: mean seconds between two.
        nodes: that found the group, in the place of what a seed draws.
        beyond: in seeds that destroy more than a group can stand.
        ignoring: rules that would notice it early and are left out, to show what it leads to.
    """

    name: str
    plant: Plant
    finds: frozenset[Property]
    seeds: int
    faults: Mapping[str, float]
    nodes: int | None
    beyond: bool
    ignoring: frozenset[Property]


BUGS: list[Bug] = []


def bug(
    *finds: Property,
    seeds: int,
    faults: Mapping[str, float] | None = None,
    nodes: int | None = None,
    beyond: bool = False,
    ignoring: Iterable[Property] = (),
) -> Callable[[Plant], Plant]:
    """Registers a planted bug under the name of its function."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.strip("_").replace("_", " ")
        BUGS.append(
            Bug(
                name=name,
                plant=plant,
                finds=frozenset(finds),
                seeds=seeds,
                faults=faults or {},
                nodes=nodes,
                beyond=beyond,
                ignoring=frozenset(ignoring),
            )
        )
        return plant

    return register
