"""etcd: three members of the installed server; the client is h2load, a C program speaking gRPC."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.contestant import NotRun
from bench.load import VALUE, Sample
from mosaik.testing import free_ports

__all__ = ["Etcd", "put_body"]

#: h2load opens no more streams than this on a connection; more outstanding means more connections.
STREAMS = 64


class Etcd:
    """Three members with their defaults: every append is synced."""

    payload = "16 B key, 112 B value, one key"
    client = "4th process, h2load on the leader"
    sync = "every batch"

    def __init__(self) -> None:
        self.name = "etcd"
        self._members: list[asyncio.subprocess.Process] = []
        self._clients: list[str] = []
        self._directory = Path()

    async def start(self, directory: Path) -> None:
        for program, package in (
            ("etcd", "etcd-server"),
            ("etcdctl", "etcd-client"),
            ("h2load", "nghttp2-client"),
        ):
            if shutil.which(program) is None:
                raise NotRun(f"{program} is not installed (Debian: {package})")
        said = subprocess.run(
            ["etcd", "--version"], capture_output=True, text=True, check=True
        ).stdout
        self.name = f"etcd {said.split()[2]}"
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        ports = free_ports(6)
        peers = [f"http://127.0.0.1:{port}" for port in ports[:3]]
        self._clients = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        cluster = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        self._members = [
            await self._member(number, peers[number], self._clients[number], cluster)
            for number in range(3)
        ]
        (directory / "body").write_bytes(put_body(b"key-000000000001", VALUE.encode()))

    async def _member(
        self, number: int, peer: str, client: str, cluster: str
    ) -> asyncio.subprocess.Process:
        with (self._directory / f"m{number}.log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                *(
                    "etcd",
                    "--name",
                    f"m{number}",
                    "--data-dir",
                    str(self._directory / f"m{number}"),
                ),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--initial-cluster", cluster, "--initial-cluster-state", "new"),
                *("--log-level", "error"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def measure(self, outstanding: int, seconds: float, warm_up: float) -> Sample:
        leader = await self._leader()
        connections = -(-outstanding // STREAMS)
        log = self._directory / "requests.log"
        log.unlink(missing_ok=True)
        child = await asyncio.create_subprocess_exec(
            *(
                "h2load",
                "-c",
                str(connections),
                "-m",
                str(-(-outstanding // connections)),
                "-t",
                "1",
            ),
            *("-D", f"{seconds:.0f}s", "--warm-up-time", f"{warm_up:.0f}s", "--log-file", str(log)),
            *("-d", str(self._directory / "body"), "-H", "content-type: application/grpc"),
            *("-H", "te: trailers", f"{leader}/etcdserverpb.KV/Put"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await child.communicate()
        if child.returncode:
            raise RuntimeError(f"h2load failed: {output.decode(errors='replace')[-2000:]}")
        return read_requests(log, seconds)

    async def _leader(self) -> str:
        """The client URL of the member that leads, once one does."""
        command = [
            "etcdctl",
            "endpoint",
            "status",
            "-w",
            "json",
            f"--endpoints={','.join(self._clients)}",
        ]
        async with asyncio.timeout(30):
            while True:
                child = await asyncio.create_subprocess_exec(
                    *command,
                    env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/usr/local/bin"},
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                output, _ = await child.communicate()
                for each in json.loads(output or b"[]"):
                    header, leader = each["Status"]["header"], each["Status"].get("leader")
                    if leader and header["member_id"] == leader:
                        return str(each["Endpoint"])

    async def stop(self) -> None:
        for member in self._members:
            if member.returncode is None:
                member.kill()
            await member.wait()


def put_body(key: bytes, value: bytes) -> bytes:
    """A gRPC message: PutRequest with its two fields, in protobuf, behind the five-byte prefix."""
    assert len(key) < 128, "one-byte lengths"
    assert len(value) < 128, "one-byte lengths"
    message = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(value)]) + value
    return b"\0" + len(message).to_bytes(4, "big") + message


def read_requests(log: Path, seconds: float) -> Sample:
    """h2load's log: start, HTTP status, duration (microseconds), one line each, without the warm-up."""
    latencies: list[float] = []
    failed = 0
    for line in log.read_text().splitlines():
        _, status, duration = line.split("\t")
        if status == "200":
            latencies.append(int(duration) / 1e6)
        else:
            failed += 1
    return Sample.of(latencies, seconds, failed)


if __name__ == "__main__":
    sys.exit("run `make bench`")
