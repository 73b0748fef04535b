"""Settings: who goes over whom, and what a slip is answered with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from mosaik.config import Config, ConsensusSection
from mosaik.groups.config import ConsensusConfig
from mosaik.primitives.errors import ConfigError

FILE = """
[network]
name = "from-file"
data_dir = "node-1"
bootstrap = ["127.0.0.1:1"]

[storage]
url = "sqlite"

[consensus]
election_timeout = 1.5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mosaik.toml"
    path.write_text(FILE)
    return path


def test_defaults_without_anything() -> None:
    assert Config.load(environ={}) == Config()


def test_file_over_default(path: Path) -> None:
    config = Config.load(path, environ={})
    assert config.network.name == "from-file"
    assert config.storage.url == "sqlite"
    assert config.consensus.settings() == {"election_timeout": 1.5}


def test_a_path_in_a_file_is_relative_to_the_file(path: Path) -> None:
    assert Config.load(path, environ={}).network.data_dir == str(path.parent / "node-1")


def test_environment_over_file(path: Path) -> None:
    config = Config.load(
        path, environ={"MOSAIK_STORAGE__URL": "lmdb", "MOSAIK_NETWORK__BOOTSTRAP": "a:1, b:2"}
    )
    assert config.storage.url == "lmdb"
    assert config.network.bootstrap == ("a:1", "b:2")
    assert config.network.name == "from-file"


def test_argument_over_environment(path: Path) -> None:
    config = Config.load(
        path,
        environ={"MOSAIK_STORAGE__URL": "lmdb"},
        arguments={"storage.url": "rocksdb", "network.name": None},
    )
    assert config.storage.url == "rocksdb"
    assert config.network.name == "from-file"


def test_the_environment_names_the_file(path: Path) -> None:
    assert Config.load(environ={"MOSAIK_CONFIG": str(path)}).storage.url == "sqlite"


def test_the_environment_is_read_into_the_settings_type() -> None:
    config = Config.load(
        environ={"MOSAIK_CONSENSUS__MAX_VOTERS": "3", "MOSAIK_CONSENSUS__BOOTSTRAP_DELAY": "0.5"}
    )
    assert config.consensus.settings() == {"max_voters": 3, "bootstrap_delay": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[netwrok]\nname = 'x'",
            r"mosaik\.toml: there is no section 'netwrok'; did you mean network\?",
        ),
        (
            "[storage]\nulr = 'x'",
            r"mosaik\.toml: there is no setting 'ulr' in \[storage\]; did you mean url\?",
        ),
        ("[storage]\nzzz = 'x'", r"there are: url"),
        (
            "[consensus]\nmax_voters = 'x'",
            r"mosaik\.toml: \[consensus\] max_voters: Expected `int \| null`",
        ),
        ("url = 'x'", r"'url' stands outside a section"),
        ("[storage", r"is not TOML"),
    ],
)
def test_a_slip_in_the_file(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Config.load(path, environ={})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "MOSAIK_STORGE__URL",
            "x",
            "MOSAIK_STORGE__URL: there is no section 'storge'; did you mean storage?",
        ),
        (
            "MOSAIK_CONSENSUS__MAX_VOTERS",
            "many",
            "MOSAIK_CONSENSUS__MAX_VOTERS: [consensus] max_voters",
        ),
        ("MOSAIK_CONFIG", "/nowhere/mosaik.toml", "/nowhere/mosaik.toml cannot be read"),
    ],
)
def test_a_slip_in_the_environment(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(environ={variable: value})
    assert message in str(caught.value)


def test_every_consensus_parameter_can_be_set() -> None:
    settable = {field.name for field in msgspec.structs.fields(ConsensusSection)}
    assert settable == {field.name for field in fields(ConsensusConfig)}


@pytest.mark.parametrize("variable", ["MOSAIK_STORAGE__URL", "MOSAIK_NETWORK__DATA_DIR"])
def test_an_empty_setting_is_refused(variable: str) -> None:
    """Else an unset shell variable would make a durable node a volatile one."""
    with pytest.raises(ConfigError, match=rf"{variable}: .* is empty; give it a value"):
        Config.load(environ={variable: ""})


def test_no_bootstrap_addresses_may_be_said_as_an_empty_variable() -> None:
    assert Config.load(environ={"MOSAIK_NETWORK__BOOTSTRAP": ""}).network.bootstrap == ()
