"""How a group is joined, step by step; each step offers what may follow it and nothing else.

::

    groups.with_key(key)                    KeyStage
          .with_state_machine(machine)      MachineStage      (without: a group of NoOp)
          .with_log_storage("lmdb")         StorageStage      (without: what the configuration says)
          .join()                           Group

``with_consensus_config`` and ``require_ticket`` may stand after any step. Storage comes after the
machine because it is typed by the machine's command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Protocol, Self, TypeVar

from mosaik.groups.config import ConsensusConfig, GroupConfig, TicketValidator
from mosaik.groups.group import Group
from mosaik.groups.key import GroupKey
from mosaik.groups.opening import StorageChoice
from mosaik.machines.machine import StateMachine
from mosaik.machines.noop import NoOp
from mosaik.primitives.codec import Codec
from mosaik.primitives.errors import CodecError, ConfigError
from mosaik.storage.contract import Storage, StorageEnvironment

__all__ = ["Joiner", "KeyStage", "MachineStage", "StorageStage"]

C = TypeVar("C")
Q = TypeVar("Q")
R = TypeVar("R")


class Joiner(Protocol):
    """Whoever runs groups on this node."""

    def join(
        self,
        config: GroupConfig,
        machine: StateMachine[C, Q, R],
        storage: StorageChoice,
    ) -> Group[C, Q, R]:
        """A handle to the group, which begins to run if it does not yet."""
        ...


class WrongOrder(ConfigError, AttributeError):
    """A builder's step was called before the step that it belongs after."""


class _Stage:
    """What every step offers."""

    #: Why a step that belongs elsewhere cannot stand here.
    _later: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        joiner: Joiner,
        key: GroupKey,
        consensus: ConsensusConfig | None = None,
        auth: tuple[TicketValidator, ...] = (),
    ) -> None:
        self._joiner = joiner
        self._key = key
        self._consensus = consensus
        self._auth = auth

    def with_consensus_config(self, config: ConsensusConfig) -> Self:
        """Sets the parameters; the last call counts. Without one the configuration's hold.

        Raises:
            ConfigError: it is not a `ConsensusConfig`.
        """
        if not isinstance(config, ConsensusConfig):  # pyright: ignore[reportUnnecessaryIsInstance]  # for the untyped
            raise ConfigError(f"with_consensus_config takes a ConsensusConfig, not {config!r}")
        self._consensus = config
        return self

    def require_ticket(self, validator: TicketValidator) -> Self:
        """Bonds only with peers that carry a ticket which this validator accepts.

        Each call adds a validator, and all of them have to be satisfied. Their order matters: it enters
        the group's id.

        Raises:
            ConfigError: it is not a validator.
        """
        if not isinstance(validator, TicketValidator):  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
            raise ConfigError(
                f"require_ticket takes a validator with kind, signature and validate(), not {validator!r}"
            )
        self._auth = (*self._auth, validator)
        return self

    def _config(self, machine: StateMachine[Any, Any, Any]) -> GroupConfig:
        consensus = self._consensus or ConsensusConfig()
        return GroupConfig(self._key, consensus, machine.signature(), self._auth)

    if not TYPE_CHECKING:  # a type checker has to see the missing method itself

        def __getattr__(self, name: str) -> NoReturn:
            hint = self._later.get(name)
            if hint is None:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            raise WrongOrder(f"{name}() cannot stand here: {hint}")


class KeyStage(_Stage):
    """A group with a key."""

    _later: ClassVar[dict[str, str]] = {
        "with_log_storage": "storage is typed by the machine's command, so call "
        "with_state_machine() first",
        "with_key": "the group has a key already",
    }

    def with_state_machine(self, machine: StateMachine[C, Q, R]) -> MachineStage[C, Q, R]:
        """Says what is replicated.

        Raises:
            ConfigError: it is not a state machine.
        """
        if not isinstance(machine, StateMachine):  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
            raise ConfigError(f"with_state_machine takes a StateMachine, not {machine!r}")
        return MachineStage(self._joiner, self._key, machine, self._consensus, self._auth)

    def join(self) -> Group[None, None, None]:
        """Joins with the machine that does nothing, on the configured storage."""
        return self.with_state_machine(NoOp()).join()


class _Joinable(_Stage, Generic[C, Q, R]):
    """A group with a machine."""

    _storage = StorageChoice()

    def __init__(
        self,
        joiner: Joiner,
        key: GroupKey,
        machine: StateMachine[C, Q, R],
        consensus: ConsensusConfig | None,
        auth: tuple[TicketValidator, ...],
    ) -> None:
        super().__init__(joiner, key, consensus, auth)
        self._machine = machine

    def join(self) -> Group[C, Q, R]:
        """Joins the group, and returns at once: nothing is read, written or sent yet.

        Joining a group that runs on this node already gives another handle to it; this machine is then
        not used.

        Raises:
            CodecError: msgspec cannot encode the machine's command, query or result type.
            ConfigError: the store is durable and the node's identity is not.
            JoinConflict: the group runs here with another machine or another storage.
        """
        machine = self._machine
        for what, of in (
            ("command", machine.command_type),
            ("query", machine.query_type),
            ("result", machine.result_type),
        ):
            try:
                Codec[Any](of)
            except CodecError as error:
                raise CodecError(f"the {what} type of {type(machine).__name__}: {error}") from error
        return self._joiner.join(self._config(machine), machine, self._storage)


class MachineStage(_Joinable[C, Q, R]):
    """A group with a key and a machine."""

    _later: ClassVar[dict[str, str]] = {"with_state_machine": "the group has a machine already"}

    def with_log_storage(
        self,
        storage: str | StorageEnvironment | Storage[C],
        *,
        allow_volatile: bool = False,
    ) -> StorageStage[C, Q, R]:
        """Says where this node keeps its log.

        Args:
            storage: a backend's name (``"lmdb"``: in the node's data directory), a URL, an opened
                environment, or a log of one.
            allow_volatile: take a store, other than memory, that does not survive this process.

        Raises:
            ConfigError: it is none of these.
        """
        if not isinstance(storage, str | Storage | StorageEnvironment):  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
            raise ConfigError(
                f"with_log_storage takes a backend's name, a URL, or an opened store, not {storage!r}"
            )
        if not storage:
            raise ConfigError(
                "with_log_storage got an empty name; name a backend, or leave the call out"
            )
        chosen = StorageChoice(storage, allow_volatile=allow_volatile)
        return StorageStage(
            self._joiner, self._key, self._machine, self._consensus, self._auth, chosen
        )


class StorageStage(_Joinable[C, Q, R]):
    """A group with a key, a machine and a storage."""

    _later: ClassVar[dict[str, str]] = {
        "with_state_machine": "the storage was typed by the machine that came before it",
        "with_log_storage": "the group has a storage already",
    }

    def __init__(
        self,
        joiner: Joiner,
        key: GroupKey,
        machine: StateMachine[C, Q, R],
        consensus: ConsensusConfig | None,
        auth: tuple[TicketValidator, ...],
        storage: StorageChoice,
    ) -> None:
        super().__init__(joiner, key, machine, consensus, auth)
        self._storage = storage
