"""Scenarios as text: commands, and the whole exchange that they lead to.

Theory of operation
-------------------
A transcript is a sequence of blocks, each a command line, a line of dashes, and what happened. Nothing
is delivered, written or timed out unless a command says so:

``node 1 2 3 expect=3``     starts nodes; also ``observer``, ``volatile``, ``bytes=1`` a message
``bond all``, ``bond 1 2``  makes bonds; ``unbond 1 2``, and ``unbond 1 2 died``
``tick 3.1``                lets time pass; whose deadline comes is stepped, and nothing is delivered
``deliver``                 completes writes and delivers messages until all is quiet
``deliver 1>2 persist=2``   only messages of these links, and only these nodes' writes
``stand 1``                 its election timer runs out now
``drop 1>2``, ``drop all``  loses what is under way
``run 3``                   lets time pass and delivers at once; heartbeats and statuses are not shown
``submit 1 x y``            commands; ``read 1``, ``transfer 1 2``, ``leave 1``, ``remove 1 3``
``crash 1``, ``start 1``    the write in flight is lost, unless ``crash 1 written``; ``wipe 1``
``keep 1``, ``roll back 1`` remembers a disk, and puts it back behind the replica's back
``damage 1 3``              its disk cannot be read from index 3 on
``cut 1/2,3``, ``mend``     links between two groups carry nothing
``status``                  what every node shows

The rules of the simulator are checked throughout. ``pytest --rewrite-transcripts`` writes the outcome
into the files, to be reviewed as a difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from mosaik.consensus import (
    Bonded,
    Effects,
    Input,
    Notice,
    Outgoing,
    Persisted,
    Received,
    View,
    Write,
)
from mosaik.consensus import messages as m
from mosaik.testing.simulation.rules.store import PlainStore
from tests.consensus.simulation import NodePlan, Property, Scenario, Simulation
from tests.consensus.simulation.node import SimNode

__all__ = ["Transcript", "commands_of", "render"]

#: More deliveries than this without quiet, and something goes in circles.
MAX_DELIVERIES: Final = 2000


class Transcript(Simulation):
    """A simulation in which every step is asked for."""

    def __init__(self, ignored: frozenset[Property] = frozenset()) -> None:
        super().__init__(1, Scenario(nodes=(), expect=1), ignored=ignored)
        # Whoever leaves stays away.
        self.faults.active = False
        self.lines: list[str] = []
        self._under_way: deque[tuple[SimNode, Outgoing]] = deque()
        self._brief = False
        self._kept: dict[str, PlainStore] = {}
        self._generation = 0
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "node": self._node,
            "bond": self._bond,
            "unbond": self._unbond,
            "tick": self._tick,
            "run": self._run,
            "deliver": self._deliver_some,
            "drop": self._drop,
            "stand": self._stand,
            "submit": self._submit,
            "read": lambda words: self._ask(words[0], self.workload.read(self._one(words[0]))),
            "transfer": self._transfer,
            "leave": lambda words: self._ask(words[0], self.workload.leave(self._one(words[0]))),
            "remove": self._remove,
            "crash": self._crash,
            "start": lambda words: self.start(self._one(words[0])),
            "wipe": self._wipe,
            "keep": self._keep,
            "roll": self._roll_back,
            "damage": self._damage,
            "cut": self._cut,
            "mend": lambda words: self.network.cut.clear(),
            "status": self._status,
        }

    def execute(self, command: str) -> list[str]:
        """Carries one command out; answers what happened."""
        self.lines = []
        word, *words = command.split()
        self._commands[word](words)
        return self.lines

    # -- what is shown ------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self.lines.append(line)

    def observe(
        self, node: SimNode, inputs: Sequence[Input], before: View, effects: Effects
    ) -> None:
        core = node.core
        assert core is not None
        view = core.view
        name = self.show.names.replica(core.replica)
        if (view.role, view.term) != (before.role, before.term):
            self.say(f"  {name} is {view.role} in t{view.term}")
        if view.leader != before.leader and view.leader is not None and not view.leading:
            self.say(f"  {name} follows {self.show.names.replica(view.leader)}")
        if view.commit != before.commit and view.history == before.history:
            self.say(f"  {name} commits {view.commit}")
        if effects.write is not None and not self._brief:
            self.say(f"  {name} writes: {self.show.batch(effects.write.batch)}")
        for event in effects.events:
            if event.notice is not Notice.CONFIGURATION:
                self.say(f"  {name} reports: {event.notice}")
        for answer in effects.answers:
            self.say(f"  {name} answers: {self.show.answer(answer)}")

    def _worth_saying(self, body: m.AnyBody) -> bool:
        if not self._brief:
            return True
        if isinstance(body, m.AppendEntries):
            return bool(body.entries)
        if isinstance(body, m.AppendReply):
            return not body.success
        return not isinstance(body, m.Status | m.JoinRequest | m.HistoryInfo | m.RolledBack)

    # -- the world ----------------------------------------------------------------------------------

    def write(self, node: SimNode, write: Write) -> None:
        node.writing = write

    def send(self, node: SimNode, outgoing: Outgoing) -> None:
        if outgoing.peer in node.bonds and (node.peer, outgoing.peer) not in self.network.cut:
            self._under_way.append((node, outgoing))

    def _persist(self, node: SimNode) -> None:
        write, node.writing = node.writing, None
        if write is not None:
            self.commit(node, write)
            self.step(node, (Persisted(write.sequence),))

    def _pass_on(self, sender: SimNode, outgoing: Outgoing) -> None:
        receiver = self.nodes[outgoing.peer]
        body = outgoing.envelope.body
        if self._worth_saying(body):
            words = self.show.body(body)
            self.say(f"{sender.name} > {receiver.name}: {words}")
        if receiver.up and sender.peer in receiver.bonds:
            self.step(receiver, (Received(outgoing.envelope),))

    def settle(self) -> None:
        """Completes writes and delivers messages until all is quiet."""
        for _ in range(MAX_DELIVERIES):
            writing = [node for node in self.nodes.values() if node.writing is not None]
            if writing:
                self._persist(writing[0])
            elif self._under_way:
                self._pass_on(*self._under_way.popleft())
            else:
                return
        raise AssertionError("messages go in circles")

    # -- commands -----------------------------------------------------------------------------------

    def _one(self, number: str) -> SimNode:
        return next(node for node in self.nodes.values() if node.name == f"n{number}")

    def _ask(self, number: str, item: Input) -> None:
        self.step(self._one(number), (item,))

    def _store_id(self, node_number: int) -> bytes:
        self._generation += 1
        return bytes([node_number, self._generation]) * 8

    def _node(self, words: list[str]) -> None:
        numbers = [int(word) for word in words if word.isdigit()]
        for word in words:
            if word.startswith("expect="):
                self.scenario = replace(self.scenario, expect=int(word.partition("=")[2]))
            elif word.startswith("bytes="):
                self.scenario = replace(self.scenario, message_bytes=int(word.partition("=")[2]))
        plan = NodePlan(observer="observer" in words, volatile="volatile" in words)
        for number in numbers:
            peer = bytes([number]) * 32
            store = PlainStore(self._store_id(number))
            node = SimNode(f"n{number}", peer, self.scenario.parameters(plan), store)
            self.nodes[peer] = node
            self.show.names.peers[peer] = node.name
            self.start(node)

    def _bond(self, words: list[str]) -> None:
        chosen = list(self.nodes.values()) if words == ["all"] else [self._one(w) for w in words]
        running = [node for node in chosen if node.up]
        for at, one in enumerate(running):
            for other in running[at + 1 :]:
                for here, there in ((one, other), (other, one)):
                    if there.peer not in here.bonds:
                        here.bonds.add(there.peer)
                        self.step(here, (Bonded(there.peer),))

    def _unbond(self, words: list[str]) -> None:
        one, other = self._one(words[0]), self._one(words[1])
        self.unbond(one, other.peer, "died" in words)
        self.unbond(other, one.peer, "died" in words)

    def _stand(self, words: list[str]) -> None:
        node = self._one(words[0])
        assert node.core is not None
        node.core._core.election_due = self.now
        self.step(node, ())

    def _tick(self, words: list[str]) -> None:
        self.run_until(self.now + float(words[0]))

    def _run(self, words: list[str]) -> None:
        self._brief = True
        end = self.now + float(words[0])
        self.settle()
        while self._heap and self._heap[0][0] <= end:
            self.run_until(self._heap[0][0])
            self.settle()
        self.run_until(end)
        self._brief = False

    def _deliver_some(self, words: list[str]) -> None:
        if not words:
            self.settle()
            return
        for word in words:
            if word.startswith("persist="):
                self._persist(self._one(word.partition("=")[2]))
                continue
            for sender, outgoing in self._take(word):
                self._pass_on(sender, outgoing)

    def _take(self, link: str) -> list[tuple[SimNode, Outgoing]]:
        """Takes what is under way over a link, or over all, off the wires."""
        sender, _, receiver = link.partition(">")

        def chosen(one: SimNode, outgoing: Outgoing) -> bool:
            there = self.nodes[outgoing.peer].name
            return link == "all" or (one.name, there) == (f"n{sender}", f"n{receiver}")

        taken = [pair for pair in self._under_way if chosen(*pair)]
        self._under_way = deque(pair for pair in self._under_way if not chosen(*pair))
        return taken

    def _drop(self, words: list[str]) -> None:
        for word in words:
            for sender, outgoing in self._take(word):
                receiver = self.nodes[outgoing.peer].name
                self.say(
                    f"lost: {sender.name} > {receiver}: {self.show.body(outgoing.envelope.body)}"
                )

    def _submit(self, words: list[str]) -> None:
        named = [word.encode() for word in words[1:]]
        self._ask(words[0], self.workload.submit(self._one(words[0]), len(named), *named))

    def _transfer(self, words: list[str]) -> None:
        target = self._one(words[1]).peer if len(words) > 1 else None
        self._ask(words[0], self.workload.transfer(self._one(words[0]), target))

    def _remove(self, words: list[str]) -> None:
        node, other = self._one(words[0]), self._one(words[1])
        self._ask(words[0], self.workload.leave(node, other.peer))

    def _crash(self, words: list[str]) -> None:
        node = self._one(words[0])
        writing = node.stop()
        if writing is not None and "written" in words:
            self.commit(node, writing)
        for other in self.nodes.values():
            self.unbond(other, node.peer, died=True)
        self._under_way = deque(pair for pair in self._under_way if pair[0] is not node)

    def _wipe(self, words: list[str]) -> None:
        node = self._one(words[0])
        assert not node.up, "crash it first"
        node.store = PlainStore(self._store_id(int(words[0])))

    def _keep(self, words: list[str]) -> None:
        self._kept[words[0]] = self._one(words[0]).store.copy()

    def _roll_back(self, words: list[str]) -> None:
        node = self._one(words[-1])
        assert not node.up, "crash it first"
        node.store = self._kept[words[-1]].copy()

    def _damage(self, words: list[str]) -> None:
        node = self._one(words[0])
        assert not node.up, "crash it first"
        node.store.damage(int(words[1]))

    def _cut(self, words: list[str]) -> None:
        inside, outside = (
            {self._one(number).peer for number in group.split(",")} for group in words[0].split("/")
        )
        self.network.isolate(inside, outside)

    def _status(self, words: list[str]) -> None:
        del words
        for node in self.nodes.values():
            if node.core is None:
                self.say(f"{node.name} is down")
                continue
            view = node.core.view
            history = self.show.names.history(view.history)
            quarantined = " quarantined" if view.quarantined else ""
            self.say(
                f"{self.show.names.replica(node.core.replica)}: {view.role} of {history} t{view.term} "
                f"last={view.last} commit={view.commit} "
                f"{self.show.configuration(view.configuration)}{quarantined}"
            )


def commands_of(block: str) -> list[str]:
    """The commands of a block, or of a whole transcript: what stands above a line of dashes."""
    commands: list[str] = []
    for one in block.split("\n\n"):
        above = one.split("\n----", maxsplit=1)[0]
        commands += [line for line in above.splitlines() if line and not line.startswith("#")]
    return commands


def render(text: str) -> str:
    """Runs a transcript; answers it with the outcome as it is now. Comments and order are kept."""
    transcript = Transcript()
    rendered: list[str] = []
    for block in text.split("\n\n"):
        comments = [line for line in block.splitlines() if line.startswith("#")]
        commands = commands_of(block)
        happened = [line for command in commands for line in transcript.execute(command)]
        rendered.append("\n".join([*comments, *commands, "----", *(happened or ["quiet"])]))
    return "\n\n".join(rendered) + "\n"
