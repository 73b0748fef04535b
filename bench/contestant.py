"""What is measured: three members, and a client in a fourth process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Protocol

import msgspec

from bench.load import Sample

__all__ = ["Contestant", "NotRun", "run_client"]


class NotRun(Exception):
    """This contestant cannot run here; the message says why."""


class Contestant(Protocol):
    """One system under load. It is started and stopped anew for each of the alternating runs.

    Attributes:
        name: what it is, with its version.
        sync: what an acknowledgement survives.
        client: where the client is, and what it is.
        payload: what one command holds.
    """

    name: str
    sync: str
    client: str
    payload: str

    async def start(self, directory: Path) -> None:
        """Starts the members with their data in a directory.

        Raises:
            NotRun: something is missing.
        """
        ...

    async def measure(self, outstanding: int, seconds: float, warm_up: float) -> Sample:
        """Runs the client with so many commands outstanding."""
        ...

    async def stop(self) -> None:
        """Ends the members."""
        ...


async def run_client(module: str, *arguments: str) -> Sample:
    """Runs a client module in a process of its own; its last line is the sample.

    Raises:
        RuntimeError: it failed; the message has what it said.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await child.communicate()
    except BaseException:
        child.kill()
        await child.wait()
        raise
    if child.returncode:
        raise RuntimeError(f"{module} failed: {errors.decode(errors='replace')[-2000:]}")
    return msgspec.json.decode(output.splitlines()[-1], type=Sample)
