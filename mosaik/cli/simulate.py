"""``mosaik simulate``: whole groups on virtual time, under faults, from seeds."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mosaik.cli.counting import counting
from mosaik.primitives.errors import ConfigError
from mosaik.primitives.nearest import did_you_mean

if TYPE_CHECKING:
    from mosaik.testing.simulation import Scenario

__all__ = ["simulate"]


@click.command()
@click.option(
    "--seeds", type=click.IntRange(1), help="How many; 20, or 1 with --seed.", show_default=False
)
@click.option("--seed", type=click.IntRange(0), help="The first; 0 when not given.")
@click.option("--beyond", is_flag=True, help="Destroy too much, and expect a refusal.")
@click.option("--trace", is_flag=True, help="Of one seed: print everything that happens.")
@click.option("--shrink/--no-shrink", default=True, help="Look for the least that still fails.")
@click.option("--faults", help="Of one seed: only these, separated by commas.")
@click.option("--seconds", type=click.FloatRange(1), help="Of one seed: virtual seconds.")
@click.option("--nodes", type=click.IntRange(1, 9), help="Of one seed: how many found the group.")
@click.option("--newcomers", type=click.IntRange(0, 9), help="Of one seed: how many join later.")
@click.option("--clients", type=click.IntRange(1, 99), help="Of one seed: how many ask.")
@click.option("--workers", type=click.IntRange(1), help="Processes; one a core when not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def simulate(
    seeds: int | None,
    seed: int | None,
    beyond: bool,
    trace: bool,
    shrink: bool,
    workers: int | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Run whole groups on virtual time, with faulty networks, clocks, processes and disks.

    Every seed is one run, and the same seed is the same run each time. What is broken is printed with the
    command that shows it again, and with the least that still breaks it. Ends with status 1 if a rule was
    broken, or if so little happened that nothing was shown.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    alone = seed is not None and seeds in (None, 1)
    if not alone and (trace or changes):
        raise click.UsageError("--trace and what changes a run are for one seed: name it by --seed")
    passed = (
        _one(seed, beyond, trace, changes, as_json)
        if alone and seed is not None
        else _many(seed or 0, seeds or 20, beyond, shrink, workers or os.cpu_count() or 1, as_json)
    )
    if not passed:
        raise click.exceptions.Exit(1)


def _many(first: int, seeds: int, beyond: bool, shrunk: bool, workers: int, as_json: bool) -> bool:
    from mosaik.testing.simulation import Summary, run_seeds
    from mosaik.testing.simulation.runner import (
        REQUIRED,
        replay_command,
        run_beyond,
        run_seed,
        scenario_of,
        shrink,
    )

    def replay(seed: int) -> str:
        return replay_command(seed, beyond=beyond)

    summary, began = Summary(() if beyond else REQUIRED, replay), time.monotonic()
    with counting("simulating", seeds, "seeds") as count:
        run = run_beyond if beyond else run_seed
        for outcome in run_seeds(run, first, seeds, workers=workers):
            summary.add(outcome)
            count(1)
    summary.seconds = time.monotonic() - began
    report = summary.report()
    lines = list(summary.lines())
    if shrunk and summary.failures:
        seed = summary.failures[0].seed
        with counting("shrinking", 0, "scenarios") as count:
            least = shrink(seed, scenario_of(seed, beyond=beyond), progress=lambda: count(1))
        if least is not None:
            command = replay_command(seed, least.scenario, beyond=beyond)
            report["shrunk"] = {"replay": command, "violation": least.outcome.violation}
            lines += [f"shrunk: {least.outcome.violation}", f"  replay: {command}"]
    click.echo(json.dumps(report, indent=2) if as_json else "\n".join(lines))
    return summary.passed


def _one(seed: int, beyond: bool, trace: bool, changes: dict[str, Any], as_json: bool) -> bool:
    from mosaik.testing.simulation.runner import run_seed, scenario_of

    scenario = _changed(scenario_of(seed, beyond=beyond), changes)
    outcome = run_seed(seed, scenario, trace=sys.stdout if trace else None)
    if as_json:
        report = {
            "seed": seed,
            "hash": f"{outcome.hash:08x}",
            "steps": outcome.steps,
            "counts": dict(outcome.counts),
            "violation": outcome.violation,
        }
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(f"seed {seed}: hash {outcome.hash:08x}, {outcome.steps} steps")
        for name, count in sorted(outcome.counts.items()):
            click.echo(f"  {name:<26}{count:6}")
        click.echo(outcome.violation or "no rule was broken")
    return not outcome.violation


def _changed(scenario: Scenario, changes: dict[str, Any]) -> Scenario:
    from mosaik.testing.simulation.scenario import FAULTS

    chosen = changes.pop("faults", None)
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",") if name.strip()]
        for name in names:
            if name not in FAULTS:
                raise ConfigError(f"no fault is called {name!r}; {did_you_mean(name, FAULTS)}")
        faults = {name: scenario.faults.get(name, FAULTS[name]) for name in names}
        changes |= {"faults": faults}
    if changes:
        # What was shrunk need not reach what a whole run must.
        changes |= {"commands": 0, "faults_at_least": 0}
    return replace(scenario, **changes)
