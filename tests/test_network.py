"""A node as a whole: it starts, is found, and leaves nothing behind, whatever fails."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mosaik.config import Config
from mosaik.discovery import DiscoveryConfig
from mosaik.groups import ConsensusConfig, GroupKey
from mosaik.machines import NoOp
from mosaik.network import Network
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import BindError, ConfigError, DialError, IdentityError, NetworkError
from mosaik.primitives.peer import SecretKey
from mosaik.testing.ports import free_ports
from mosaik.transport import CloseReason, Identity, Link, MemoryHub
from mosaik.transport.identity import write_key_file

NODE = """
import asyncio, sys
from mosaik.network import Network

async def main():
    async with Network("test", bootstrap=sys.argv[1:2]) as network:
        print(network.peer, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def is_neighbour(network: Network, peer: Digest) -> bool:
    discovery = network.discovery()
    return peer in discovery.neighbours() and peer in discovery.catalog()


def is_unknown(network: Network, peer: Digest) -> bool:
    return peer not in network.discovery().catalog()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def test_nodes_find_each_other_over_tls() -> None:
    async with (
        Network("test") as one,
        Network("test", bootstrap=one.addresses) as two,
        Network("test", bootstrap=two.addresses) as three,
    ):
        nodes = [one, two, three]
        await until(lambda: all(len(node.discovery().catalog()) == 2 for node in nodes))
        await until(lambda: all(len(node.discovery().neighbours()) == 2 for node in nodes))
        assert one.local.peer in two.discovery().catalog()
        entry = two.discovery().catalog().get(one.peer)
        assert entry is not None
        assert entry.addresses == one.local.addresses == one.addresses
        assert one.local.network_id == Digest("test")


async def test_dials_that_cross_end_with_one_link() -> None:
    async with Network("test") as one, Network("test", bootstrap=one.addresses) as two:
        address = one.addresses[0]
        await asyncio.gather(
            two.discovery().sync_with(address),
            two.discovery().sync_with(address),
            one.discovery().dial(two.addresses[0]),
        )
        await until(lambda: is_neighbour(one, two.peer) and is_neighbour(two, one.peer))
        assert one.peer in two.discovery().catalog()
        assert two.peer in one.discovery().catalog()


async def test_nodes_of_two_networks_do_not_meet() -> None:
    async with (
        Network("test") as one,
        Network("other", bootstrap=one.addresses) as two,
    ):
        with pytest.raises(DialError, match="another network"):
            await two.discovery().sync_with(one.addresses[0])
        assert len(one.discovery().catalog()) == len(two.discovery().catalog()) == 0


async def test_a_killed_process_is_noticed_at_once_and_a_closed_one_departs() -> None:
    async with Network("test") as one:
        for how in (signal.SIGKILL, signal.SIGINT):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", NODE, one.addresses[0], stdout=-1, stderr=-3
            )
            assert process.stdout is not None
            peer = Digest((await process.stdout.readline()).strip())
            await until(partial(is_neighbour, one, peer))
            process.send_signal(how)
            await until(lambda: not one.discovery().neighbours())
            await process.wait()
            if how == signal.SIGKILL:
                assert peer in one.discovery().catalog()
            else:
                await until(partial(is_unknown, one, peer))


async def test_the_identity_lives_in_the_data_directory(tmp_path: Path) -> None:
    async with Network("test", data_dir=tmp_path / "node") as network:
        peer = network.peer
        assert network.durable
        assert network.data_dir == tmp_path / "node"
        with pytest.raises(IdentityError, match=f"in use by process {os.getpid()}"):
            await Network("test", data_dir=tmp_path / "node").start()
    async with Network("test", data_dir=tmp_path / "node") as network:
        assert network.peer == peer


async def test_a_key_that_is_kept_elsewhere(tmp_path: Path) -> None:
    secret = SecretKey.generate()
    write_key_file(tmp_path / "my.key", secret)
    for given in (secret, tmp_path / "my.key", str(tmp_path / "my.key")):
        async with Network("test", identity=given) as network:
            assert network.peer == secret.peer
            assert network.durable
            assert network.data_dir is None
    async with Network("test", identity=secret, data_dir=tmp_path / "node") as network:
        assert network.peer == secret.peer
    assert not (tmp_path / "node" / "key").exists()


async def test_a_given_identity_stays_open(tmp_path: Path) -> None:
    identity = Identity.in_directory(tmp_path)
    async with Network("test", identity=identity) as network:
        assert network.identity is identity
    with pytest.raises(IdentityError, match="in use"):
        Identity.in_directory(tmp_path)
    identity.close()


async def test_without_a_place_the_node_is_new_each_time() -> None:
    peers = set[bytes]()
    for _ in range(2):
        async with Network("test") as network:
            peers.add(network.peer)
            assert not network.durable
    assert len(peers) == 2


async def test_a_port_in_use_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        network = Network("test", listen=address, data_dir=tmp_path)
        with pytest.raises(
            BindError, match=rf"cannot listen on {address}: Address already in use.*listen="
        ):
            await network.start()
    Identity.in_directory(tmp_path).close()  # the failed start let go of it
    await network.close()


async def test_a_bad_address_is_named() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is not an address"):
        await Network("test", listen="nowhere").start()


async def test_listening_everywhere_needs_an_address_to_tell() -> None:
    async with Network("test", listen="0.0.0.0:0", advertise=["127.0.0.1:1"]) as network:
        assert network.addresses == ("127.0.0.1:1",)


async def test_what_is_advertised_and_where_to_dial_from_are_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MOSAIK_NETWORK__ADVERTISE", "127.0.0.1:1, 127.0.0.1:2")
    monkeypatch.setenv("MOSAIK_NETWORK__SOURCE", "127.0.0.1")
    async with Network("test") as network:
        assert network.addresses == ("127.0.0.1:1", "127.0.0.1:2")
    async with Network("test", advertise=["127.0.0.1:3"]) as network:
        assert network.addresses == ("127.0.0.1:3",)


def test_what_is_advertised_can_be_dialled() -> None:
    with pytest.raises(ConfigError, match=r"'127\.0\.0\.1:0' cannot be dialled"):
        Network("test", advertise=["127.0.0.1:0"])
    with pytest.raises(ConfigError, match="advertise takes a list of addresses"):
        Network("test", advertise="127.0.0.1:1")


async def test_a_source_that_is_another_machines_is_named_at_the_start() -> None:
    network = Network("test", source="203.0.113.1")
    with pytest.raises(BindError, match=r"cannot dial from 203\.0\.113\.1.*source="):
        await network.start()
    await network.close()


async def test_a_network_runs_once() -> None:
    network = Network("test")
    with pytest.raises(NetworkError, match="does not run yet; use 'async with'"):
        network.discovery()
    assert "not started" in repr(network)
    async with network:
        assert network.peer.short in repr(network)
        with pytest.raises(NetworkError, match="was started before"):
            await network.start()
    await network.close()
    assert "closed" in repr(network)
    with pytest.raises(NetworkError, match="is closed"):
        network.groups()
    with pytest.raises(NetworkError, match="was started before"):
        await network.start()


async def test_a_network_needs_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="has no name"):
        Network()
    monkeypatch.setenv("MOSAIK_NETWORK__NAME", "from-environment")
    assert Network().name == "from-environment"
    assert Network("given").name == "given"


async def test_settings_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mosaik.toml").write_text(
        '[network]\nname = "filed"\ndata_dir = "data"\nbootstrap = ["127.0.0.1:9"]\n'
        '[storage]\nurl = "sqlite"\n'
    )
    async with Network.from_config(tmp_path / "mosaik.toml") as network:
        assert network.network_id == Digest("filed")
        assert network.storage_url == "sqlite"
        assert network.data_dir == tmp_path / "data"
        assert (tmp_path / "data" / "key").exists()
    settings = Config.load(tmp_path / "mosaik.toml")
    assert Network.from_settings(settings).config is settings


async def test_links_go_to_who_registered_for_their_protocol() -> None:
    hub = MemoryHub()
    async with (
        Network("test", transport=hub.bind) as one,
        Network("test", transport=hub.bind) as two,
    ):
        links: list[Link] = []
        one.register("mine/1", links.append)
        with pytest.raises(ConfigError, match="'mine/1' has a handler"):
            one.register("mine/1", links.append)
        link = await two.transport.dial(one.addresses[0], "mine/1", expect=one.peer)
        assert [accepted.binding for accepted in links] == [link.binding]
        unknown = await two.transport.dial(one.addresses[0], "nobody's/1")
        assert await ending(unknown) == CloseReason.INVALID_PROTOCOL


async def ending(link: Link) -> int:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_close(code: int, reason: str, died: bool) -> None:
        ended.set_result(code)

    link.on_close = on_close
    return await ended


async def test_a_handler_that_raises_costs_its_link_only() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reported.append(context["exception"])
    )
    bug = ZeroDivisionError()

    def broken(link: Link) -> None:
        raise bug

    async with Network("test") as one, Network("test") as two:
        one.register("broken/1", broken)
        link = await two.transport.dial(one.addresses[0], "broken/1")
        assert await ending(link) == CloseReason.UNEXPECTED_CLOSE
        await two.discovery().sync_with(one.addresses[0])
        assert reported == [bug]


async def test_a_forgotten_network_warns_and_closes(tmp_path: Path) -> None:
    async with Network("test") as other:

        async def forget() -> None:
            network = Network("test", data_dir=tmp_path, bootstrap=other.addresses)
            await network.start()
            await until(lambda: len(other.discovery().catalog()) == 1)

        await forget()
        with pytest.warns(ResourceWarning, match=r"was not closed; use 'async with'"):
            gc.collect()
        await until(lambda: len(other.discovery().catalog()) == 0)  # it even said goodbye
    await until(lambda: _is_free(tmp_path))


def _is_free(path: Path) -> bool:
    try:
        Identity.in_directory(path).close()
    except IdentityError:
        return False
    return True


async def test_no_task_and_no_descriptor_stays_behind() -> None:
    async def run() -> None:
        async with Network("test") as one, Network("test", bootstrap=one.addresses) as two:
            await until(lambda: len(one.discovery().neighbours()) == 1)
            two.discovery().add_tags(Digest("t"))
            await until(lambda: one.discovery().catalog().tagged(Digest("t")))

    await run()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await run()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("bootstrap", "why"),
    [
        ("127.0.0.1:4433", "takes a list of addresses"),
        (["10.0.0.1"], "'10.0.0.1' is not an address; write HOST:PORT"),
        (["10.0.0.1:0"], "name the port"),
    ],
)
def test_a_wrong_bootstrap_address_is_refused(bootstrap: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Network("test", bootstrap=bootstrap)


async def test_an_address_where_nobody_answers_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="mosaik.discovery")
    fast = DiscoveryConfig(first_backoff=0.01, max_backoff=0.01)
    (port,) = free_ports(1)
    async with Network("test", bootstrap=[f"127.0.0.1:{port}"], discovery=fast):
        tried: list[logging.LogRecord] = []
        while len(tried) < 3:
            await asyncio.sleep(0.01)
            tried = [r for r in caplog.records if str(port) in r.getMessage()]
    assert [r.levelno for r in tried[:3]] == [logging.WARNING, logging.DEBUG, logging.DEBUG]


async def test_configured_parameters_are_a_groups_defaults() -> None:
    settings = Config.load(environ={}, arguments={"consensus.bootstrap_expect": 3})
    async with Network("test", config=settings) as network:
        stage = network.groups().with_key(GroupKey.generate())
        assert stage._config(NoOp()).consensus.bootstrap_expect == 3
        other = stage.with_consensus_config(ConsensusConfig(bootstrap_expect=2))
        assert other._config(NoOp()).consensus.bootstrap_expect == 2
