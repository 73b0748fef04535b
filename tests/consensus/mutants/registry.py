"""What a planted bug is, and the list of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from mosaik.consensus.core import Core
from tests.consensus.mutants.scenarios import CHURN
from tests.consensus.simulation import Property, Scenario

__all__ = ["MUTANTS", "Mutant", "Plant", "mutant", "nothing"]

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: what is wrong.
        plant: puts it in place.
        finds: the rules of which one has to notice it.
        scenario: where.
        seeds: within so many seeds.
        ignoring: rules that would notice it early and are left out, to show what it leads to.
    """

    name: str
    plant: Plant
    finds: frozenset[Property]
    scenario: Scenario = CHURN
    seeds: int = 100
    ignoring: frozenset[Property] = frozenset()


MUTANTS: list[Mutant] = []


def mutant(
    *finds: Property,
    scenario: Scenario = CHURN,
    seeds: int = 100,
    ignoring: Sequence[Property] = (),
) -> Callable[[Plant], Plant]:
    """Registers a planted bug under the name of its function."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", " ")
        MUTANTS.append(Mutant(name, plant, frozenset(finds), scenario, seeds, frozenset(ignoring)))
        return plant

    return register


def nothing(core: Core) -> None:
    """In the place of a function that does something."""
    del core
