"""The pytest plugin: a cluster of real nodes as a fixture.

pytest loads this in every project in which mosaik is installed, so that it imports nothing before a test
asks for the fixture.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from mosaik.testing.cluster import Cluster

__all__ = ["cluster", "pytest_configure"]

#: Three times to ten times as fast as the defaults, for nodes on one machine.
_FAST: Final = {
    "bootstrap_delay": 0.3,
    "heartbeat_interval": 0.1,
    "election_timeout": 0.5,
    "election_timeout_jitter": 0.2,
    "forward_timeout": 1.0,
    "query_timeout": 1.0,
}


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line(
        "markers",
        "mosaik(nodes=3, storage='sqlite', machine=..., consensus=...): what the fixture `cluster` is made "
        "of; see mosaik.testing.Cluster",
    )


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Cluster]:
    """Real nodes whose wires and disks can be made to fail: ``async with cluster:`` starts them.

    The marker ``mosaik`` has the arguments of `mosaik.testing.Cluster`; what a test's own does not say is
    taken from those of its class and module. Nodes find modules that lie beside the test, in the project's
    root, or where its ``pythonpath`` says.

    Raises:
        pytest.UsageError: an argument of the marker has no name.
    """
    from mosaik.testing.cluster import Cluster

    chosen: dict[str, Any] = {}
    consensus: dict[str, Any] = dict(_FAST)
    for marker in reversed(list(request.node.iter_markers("mosaik"))):  # the test's own comes last
        if marker.args:
            raise pytest.UsageError(
                f"@pytest.mark.mosaik{marker.args} in {request.node.nodeid}: its arguments have names, as in "
                "@pytest.mark.mosaik(nodes=3)"
            )
        consensus |= marker.kwargs.get("consensus", {})
        chosen |= {name: value for name, value in marker.kwargs.items() if name != "consensus"}
    directory = chosen.pop("directory", tmp_path / "cluster")
    beside = [request.path.parent, request.config.rootpath, *request.config.getini("pythonpath")]
    path = [*chosen.pop("path", ()), *beside]
    settings: dict[str, Any] = {"instrumented": True, "path": path, **chosen}
    made = Cluster(directory, consensus=consensus, **settings)
    yield made
    left = [node for node in made.nodes if node.running]
    for node in left:
        os.kill(node.process.pid, signal.SIGKILL)
    if left:
        names = ", ".join(node.name for node in left)
        pytest.fail(f"the test left {names} running; start the cluster by `async with cluster:`")
