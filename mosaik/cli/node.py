"""``mosaik node``: one node of one group, until it is told to stop; and what one that runs is asked."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeGuard, TypeVar

import click

from mosaik.cli.control import answer_requests
from mosaik.cli.lazy import Lazy, LazyGroup
from mosaik.config import PATH_VARIABLE, Config
from mosaik.groups import ConsensusConfig, Group, GroupKey
from mosaik.machines import Map, StateMachine
from mosaik.network import Network
from mosaik.primitives.errors import ConfigError

__all__ = ["DEFAULT_FILE", "group_parts", "load_config", "node", "run", "serve", "text_map"]

T = TypeVar("T")
Report = Callable[..., None]

#: Read when neither ``--config`` nor the environment names a file.
DEFAULT_FILE: Final = "mosaik.toml"
_PR_SET_PDEATHSIG: Final = 1
#: Seconds for which the event loop may keep the interpreter while the store's thread waits for it after
#: a sync. Python's 5 ms are fifty syncs of a fast disk; this took a third off a loaded group's latency.
_SWITCH_INTERVAL: Final = 0.0005


_COMMANDS: Final = {
    "inspect": Lazy("mosaik.cli.node_ask:inspect", "Show where a running node stands."),
    "backup": Lazy("mosaik.cli.node_ask:backup", "Back up a running node's group."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, invoke_without_command=True)
@click.pass_context
@click.option("--config", "path", type=click.Path(), help="The file of settings [./mosaik.toml].")
@click.option("--data-dir", help="The directory of the node's key, lock and store.")
@click.option("--listen", help="The address to listen on, host:port.")
@click.option("--bootstrap", multiple=True, help="The address of a node to begin with; repeatable.")
@click.option("--storage", help="A backend's name or a storage URL.")
@click.option("--key-file", help="The file with the group's key.")
@click.option("--machine", help="What makes the state machine, package.module:name.")
@click.option("--events", is_flag=True, help="Say what happens on standard output, as JSON lines.")
@click.option("--control", is_flag=True, hidden=True, help="Answer requests on standard input.")
@click.option("--parent", type=int, hidden=True, help="Die with this process.")
@click.option("--trail", is_flag=True, hidden=True, help="Write down what the machine does.")
def node(
    ctx: click.Context,
    path: str | None,
    data_dir: str | None,
    listen: str | None,
    bootstrap: tuple[str, ...],
    storage: str | None,
    key_file: str | None,
    machine: str | None,
    events: bool,
    control: bool,
    parent: int | None,
    trail: bool,
) -> None:
    """Run one node of a group until SIGTERM or SIGINT, or ask one that runs."""
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {name: {"path": path, "data_dir": data_dir} for name in _COMMANDS}
        return
    if parent is not None:
        _die_with(parent)
    config = load_config(
        path,
        {
            "network.data_dir": data_dir,
            "network.listen": listen,
            "network.bootstrap": list(bootstrap) or None,
            "storage.url": storage,
            "group.key_file": key_file,
            "group.machine": machine,
        },
    )
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # A reader that has stopped reading blocks this thread and not the node.
    with ThreadPoolExecutor(1, "mosaik-events") as writer:
        report = partial(_submit, writer, events)
        run(serve(config, report, control=control, trail=trail))


def load_config(path: str | None, arguments: dict[str, Any]) -> Config:
    """The settings of a command that was started here.

    Raises:
        ConfigError: the file cannot be read, or a setting is wrong.
    """
    if path is None and PATH_VARIABLE not in os.environ and Path(DEFAULT_FILE).is_file():
        path = DEFAULT_FILE
    return Config.load(path, arguments=arguments)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on uvloop where that is installed, else on asyncio's own loop."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


async def serve(
    config: Config, report: Report, *, control: bool = False, trail: bool = False
) -> None:
    """Joins the configured group and stays until a signal comes or the group ends.

    Args:
        config: the settings.
        report: is called with an event's name and what belongs to it.
        control: answer requests on standard input, and stop when it ends.
        trail: write down what the machine does, for a test that compares replicas.

    Raises:
        MosaikError: a setting is missing, or the group ended by itself.
    """
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    key, machine = group_parts(config)
    if trail and config.network.data_dir is not None:
        from mosaik.testing.trail import Trail

        machine = Trail(machine, config.network.data_dir)
    gc.collect()  # now, while nobody waits: it takes 15 ms
    async with Network.from_settings(config) as network:
        report("listening", peer=str(network.peer), addresses=list(network.addresses))
        builder = network.groups().with_key(key).with_state_machine(machine)
        async with builder.with_consensus_config(
            ConsensusConfig.from_mapping(config.consensus.settings())
        ).join() as group:
            # What is loaded by now stays. A full collection that walks it stalls the loop by 10 to 20 ms.
            gc.freeze()
            ends: list[Coroutine[Any, Any, Any]] = [_watch(group, report), stop.wait()]
            if control:
                ends.append(answer_requests(group, machine, report))
            async with _operated(network, group):
                await _first(ends)
    report("stopped")


@asynccontextmanager
async def _operated(network: Network, group: Group[Any, Any, Any]) -> AsyncGenerator[None, None]:
    """Answers the node's operator, if the node has a directory to be found in."""
    if network.data_dir is None:
        yield
        return
    from mosaik.cli.node_server import serving_operator

    async with serving_operator(
        network.data_dir, group, network.peer, lambda: tuple(network.addresses)
    ):
        yield


async def _first(ends: list[Coroutine[Any, Any, Any]]) -> None:
    """Waits for the first of them, raises what it raised, and ends the others."""
    tasks = [asyncio.ensure_future(end) for end in ends]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def group_parts(config: Config) -> tuple[GroupKey, StateMachine[Any, Any, Any]]:
    """The configured group's key and a new state machine.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    if config.network.name is None:
        raise ConfigError("the node's network has no name; set [network] name")
    if config.group.key_file is None:
        raise ConfigError(
            "the group has no key; set [group] key_file, or make one with `mosaik key generate group.key`"
        )
    return GroupKey.from_file(config.group.key_file), make_machine(config.group.machine)


async def _watch(group: Group[Any, Any, Any], report: Report) -> None:
    """Reports each change of the leader and of being online, until the group ends."""
    await asyncio.gather(_watch_leader(group, report), _watch_online(group, report))


async def _watch_leader(group: Group[Any, Any, Any], report: Report) -> None:
    leader = await group.when().leader_elected()
    while True:
        changed = group.when().leader_changed()
        report("leader", peer=str(leader), me=group.is_leader, term=int(group.log_position.term))
        leader = await changed


async def _watch_online(group: Group[Any, Any, Any], report: Report) -> None:
    while True:
        await group.when().online()
        report("online", committed=int(group.committed))
        await group.when().offline()
        report("offline")


def text_map() -> Map[str, str]:
    """The machine of a node that names none: a dictionary of text."""
    return Map(str, str)


def make_machine(name: str | None) -> StateMachine[Any, Any, Any]:
    """The state machine that ``package.module:name`` makes.

    Raises:
        ConfigError: there is no such thing, or it makes something else.
    """
    if name is None:
        return text_map()
    module, _, attribute = name.partition(":")
    # As ``python -m`` does: what is named may stand in the working directory.
    sys.path.insert(0, os.getcwd())
    try:
        made: object = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the state machine {name!r} cannot be made: {error}; "
            "write it as package.module:name, where name can be called without arguments"
        ) from error
    if not _is_machine(made):
        raise ConfigError(f"{name!r} makes a {type(made).__name__}, not a StateMachine")
    return made


def _is_machine(value: object) -> TypeGuard[StateMachine[Any, Any, Any]]:
    return isinstance(value, StateMachine)


def _submit(writer: ThreadPoolExecutor, events: bool, event: str, **more: Any) -> None:
    if events:
        writer.submit(_write, json.dumps({"event": event, **more}))
    else:
        logging.getLogger("mosaik.node").info(
            "%s%s", event, "".join(f" {name}={value}" for name, value in more.items())
        )


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _die_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies, however it dies (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
