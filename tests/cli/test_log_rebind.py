"""``mosaik log rebind``: the cure that the error about a changed parameter names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.groups import ConsensusConfig, GroupKey
from mosaik.groups.config import GroupConfig
from mosaik.machines import Counter
from mosaik.primitives.codec import Codec
from mosaik.primitives.entry import EntryKind, seal
from mosaik.primitives.errors import StorageMismatch
from mosaik.storage import LogIdentity, list_backends, open_storage
from mosaik.transport.identity import Identity

SETTINGS = """
[network]
name = "test"
data_dir = "node"
[storage]
url = "{storage}"
[group]
key_file = "{key}"
machine = "mosaik.machines:Counter"
[consensus]
heartbeat_interval = {heartbeat}
"""


def test_a_log_is_carried_over_to_changed_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    durable = ("sqlite", "lmdb", "rocksdb")
    usable = [b.scheme for b in list_backends() if b.importable and b.scheme in durable]
    if not usable:
        pytest.skip("no durable backend is installed")
    key_file, settings = tmp_path / "group.key", tmp_path / "mosaik.toml"
    key = GroupKey.generate()
    key.write_file(key_file)
    identity = Identity.in_directory(tmp_path / "node")

    def of(heartbeat: float) -> LogIdentity:
        consensus = ConsensusConfig(heartbeat_interval=heartbeat)
        group = GroupConfig(key, consensus, Counter().signature())
        return LogIdentity(
            group=group.group_id, peer=identity.peer, key=key.fingerprint, parts=group.parts
        )

    entry = seal(EntryKind.COMMAND, 1, 1, 0, b"x", 0)
    environment = open_storage(usable[0], peer=identity.peer, data_dir=tmp_path / "node")
    environment.log(of(0.5)).append([entry])
    with pytest.raises(StorageMismatch, match=r"heartbeat_interval was .*mosaik log rebind"):
        environment.log(of(0.25))
    environment.close()
    identity.close()

    settings.write_text(SETTINGS.format(storage=usable[0], key=key_file, heartbeat=0.25))
    assert main(["log", "rebind", "--config", str(settings)]) == 0
    assert "heartbeat_interval: " in capsys.readouterr().out
    assert main(["log", "rebind", "--config", str(settings)]) == 0
    assert "already" in capsys.readouterr().out

    identity = Identity.in_directory(tmp_path / "node")
    environment = open_storage(usable[0], peer=identity.peer, data_dir=tmp_path / "node")
    assert environment.log(of(0.25)).get(1) == entry
    environment.close()
    identity.close()


def test_settings_without_a_store_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "mosaik.toml"
    settings.write_text('[network]\nname = "test"\n')
    assert main(["log", "rebind", "--config", str(settings)]) == 1
    assert "[storage] url" in capsys.readouterr().err


def test_a_log_is_not_given_to_a_machine_that_does_not_know_its_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    durable = ("sqlite", "lmdb", "rocksdb")
    usable = [b.scheme for b in list_backends() if b.importable and b.scheme in durable]
    if not usable:
        pytest.skip("no durable backend is installed")
    key_file, settings = tmp_path / "group.key", tmp_path / "mosaik.toml"
    key = GroupKey.generate()
    key.write_file(key_file)
    identity = Identity.in_directory(tmp_path / "node")
    group = GroupConfig(key, ConsensusConfig(), Counter().signature())
    log_identity = LogIdentity(
        group=group.group_id, peer=identity.peer, key=key.fingerprint, parts=group.parts
    )
    command = Codec[Any](Counter().command_type).encode(Counter.Increment(1))
    environment = open_storage(usable[0], peer=identity.peer, data_dir=tmp_path / "node")
    environment.log(log_identity).append([seal(EntryKind.COMMAND, 1, 1, 0, command, 0)])
    environment.close()
    identity.close()

    text = SETTINGS.format(storage=usable[0], key=key_file, heartbeat=0.5)
    settings.write_text(text.replace("mosaik.machines:Counter", "mosaik.machines:NoOp"))
    assert main(["log", "rebind", "--config", str(settings)]) == 1
    assert "entry 1 is not a command that NoOp knows" in capsys.readouterr().err
    settings.write_text(text)
    assert main(["log", "rebind", "--config", str(settings)]) == 0
    assert "already" in capsys.readouterr().out
