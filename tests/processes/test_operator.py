"""An operator asks a node that runs, and makes another of its backup."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mosaik.machines import Map
from mosaik.testing import Cluster, ClusterNode

FAST = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
}


async def mosaik(*arguments: str, status: int = 0) -> Any:
    """What a command prints with ``--json``; what it complains of when it is to fail."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mosaik",
        *arguments,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate()
    assert process.returncode == status, complaint.decode()
    return complaint.decode() if status else json.loads(output)


async def keep_writing(node: ClusterNode, written: list[int]) -> None:
    while True:
        index, _ = await node.execute(Map.Insert(f"later-{len(written)}", "x"))
        written.append(index)


async def test_a_node_is_asked_and_backed_up_while_it_works(tmp_path: Path) -> None:
    async with Cluster(tmp_path, nodes=1, storage="sqlite", consensus=FAST) as cluster:
        (node,) = cluster.nodes
        await cluster.leader()
        last = 0
        for number in range(20):
            last, _ = await node.execute(Map.Insert(f"key-{number}", "red"))
        place = str(node.data_dir)
        found = await mosaik("node", "inspect", "--data-dir", place)
        assert (found["peer"], found["group"]["role"]) == (str(node.peer), "leader")
        assert found["group"]["committed"] >= last
        assert "open; a store has one opener" in await mosaik(
            "log", "inspect", "sqlite", "--data-dir", place, status=1
        )

        file, written = tmp_path / "the.backup", list[int]()
        writing = asyncio.create_task(keep_writing(node, written))
        made = await mosaik("node", "backup", str(file), "--data-dir", place)
        assert made == {"file": str(file), "bytes": file.stat().st_size}
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert written, "the node went on"
        await node.kill()
        assert "no node runs" in await mosaik("node", "inspect", "--data-dir", place, status=1)
        # The socket that it left does not keep it from coming back.
        await node.start()
        await node.until("online")
        await mosaik("node", "inspect", "--data-dir", place)
        await node.stop()
        assert not (node.data_dir / "node.sock").exists()

        # Its disk is lost for good, and it was the only voter.
        (node.data_dir / "sqlite.db").unlink()
        (node.data_dir / "sqlite.db.watermark").unlink()
        restore = ["log", "restore", str(file), "sqlite", "--data-dir", place]
        (restored,) = (await mosaik(*restore, "--new-history", "--yes"))["logs"]
        assert restored["entries"] > last
        await node.start()
        await node.until("online")
        items = await node.query(Map.Items())
        assert {f"key-{number}" for number in range(20)} <= items.keys()
        index, _ = await node.execute(Map.Insert("after", "all"))
        assert index > restored["entries"]
