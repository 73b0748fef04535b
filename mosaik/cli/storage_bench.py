"""``mosaik storage bench``: what durable appends cost on this disk, and which backend fits it."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import click
import msgspec

from mosaik.cli.counting import counting
from mosaik.cli.stored import json_option
from mosaik.cli.table import table_lines
from mosaik.primitives.entry import Entry, join_sealed
from mosaik.primitives.errors import ConfigError, StorageUnavailable
from mosaik.storage.contract import Capability, LogIdentity, Storage
from mosaik.storage.measure import BareFile, sealed_batches
from mosaik.storage.registry import list_backends, open_storage
from mosaik.storage.url import StorageURL

__all__ = ["Measured", "advice", "bench"]

#: Entries of a batch: one command; what gathers while a sync runs; a node that catches up.
SIZES: Final = (1, 64, 1024)
#: Contenders take turns, so that a disk that slows down does so for all.
_TURNS: Final = 5
#: Bytes that one contender writes in batches of one size, at most.
_MOST: Final = 32 * 1024 * 1024
_FILE: Final = "bare file"
#: Characters of a name in the table.
_WIDTH: Final = 24
_PEER: Final = bytes(range(32))
#: Milliseconds. No disk is as quick to write something where it stays without power.
_TOO_GOOD: Final = 0.02
#: Backends this near to each other are equally good.
_EQUAL: Final = 1.1


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One contender, with batches of one size.

    Attributes:
        store: the backend's name or URL; or the bare file.
        directory: where it wrote.
        entries: in each batch.
        appends: how many were measured.
        p50_ms, p99_ms: half of them, and all but one in a hundred, took no longer.
        of_file: how many times as long as the bare file in the same directory, by the halves.
        power_safe: whether what it acknowledged survives power loss.
    """

    store: str
    directory: str
    entries: int
    appends: int
    p50_ms: float
    p99_ms: float
    of_file: float
    power_safe: bool


@click.command()
@click.argument("urls", nargs=-1)
@click.option(
    "--directory",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to write, for a backend's bare name [the working directory].",
)
@click.option(
    "--seconds",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 600),
    help="How long each is measured with batches of each size, at most.",
)
@json_option
def bench(urls: tuple[str, ...], directory: Path, seconds: float, as_json: bool) -> None:
    """Measure durable appends of 1, 64 and 1024 entries to new stores, beside those to a bare file.

    Each of URLS names a backend, every durable one that is installed without them. With a path, the new
    store is made beside that path, with the URL's options; what lies there is never touched. All of it is
    removed afterwards.
    """
    found = _measure(urls or _durable(), directory.absolute(), seconds)
    if as_json:
        shown = {"measured": msgspec.to_builtins(found), "advice": advice(found)}
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo("\n".join(table_lines(_rows(found))))
    click.echo(f"\n{advice(found)}")


def _rows(found: Sequence[Measured]) -> Iterator[Sequence[object]]:
    yield "STORE", "ENTRIES", "APPENDS", "P50 ms", "P99 ms", "OF FILE", "ENTRIES/s"
    several = len({each.directory for each in found}) > 1
    for each in found:
        name = f"{_FILE} in {each.directory}" if several and each.store == _FILE else each.store
        if len(name) > _WIDTH:
            name = f"{name[: _WIDTH - 3]}..."
        times = "" if each.store == _FILE else f"{each.of_file:.1f}x"
        rate = f"{each.entries / each.p50_ms * 1000:,.0f}"
        took = f"{each.p50_ms:.3f}", f"{each.p99_ms:.3f}"
        yield name, each.entries, each.appends, *took, times, rate


def advice(found: Sequence[Measured]) -> str:
    """Which backend fits, in one sentence."""
    floors = [each for each in found if each.store == _FILE]
    unreal = {each.directory: each.p50_ms for each in floors if each.p50_ms < _TOO_GOOD}
    if len(unreal) == len({each.directory for each in floors}):
        return (
            f"A sync returns within {min(unreal.values()):.3f} ms here, which no disk does: this is memory, "
            f"or a disk that says so too soon, and no backend can mend that."
        )
    found = [each for each in found if each.directory not in unreal]
    costs: dict[str, float] = {}
    for store in dict.fromkeys(each.store for each in found if each.power_safe):
        times = [each.of_file for each in found if each.store == store]
        costs[store] = math.exp(fmean(map(math.log, times)))
    costs.pop(_FILE, None)
    if not costs:
        return "None of these survives power loss, so none of them fits a log that must."
    ranked = sorted(costs, key=lambda store: costs[store])
    best = [store for store in ranked if costs[store] <= costs[ranked[0]] * _EQUAL]
    others = ", ".join(f"{store} {costs[store]:.1f}" for store in ranked if store not in best)
    fits = f"{' and '.join(best)} fit{'' if len(best) > 1 else 's'} this disk best"
    cost = f"an append takes {costs[ranked[0]]:.1f} times as long as one to a bare file"
    return f"{fits}: {cost}{f' ({others})' if others else ''}."


def _durable() -> tuple[str, ...]:
    return tuple(
        each.scheme
        for each in list_backends()
        if each.importable
        and not (each.wraps or each.remote)
        and Capability.POWER_SAFE in each.survives
    )


def _measure(urls: Sequence[str], directory: Path, seconds: float) -> list[Measured]:
    samples: dict[tuple[int, int], list[float]] = {}
    with ExitStack() as undo:
        contenders = _contenders(urls, directory, undo)
        total = len(SIZES) * _TURNS * len(contenders)
        with counting("measuring", total, "turns") as count:
            for size in SIZES:
                started = [each.start(size) for each in contenders]
                for _ in range(_TURNS):
                    for number, appends in enumerate(started):
                        taken = samples.setdefault((size, number), [])
                        most = max(1, _MOST // (size * 168 * _TURNS))
                        taken += _turn(appends, seconds / _TURNS, most)
                        count(1)
        floors = {
            (size, each.directory): _quantile(samples[size, number], 0.5)
            for size in SIZES
            for number, each in enumerate(contenders)
            if each.name == _FILE
        }
        return [
            _measured(each, size, samples[size, number], floors[size, each.directory])
            for size in SIZES
            for number, each in enumerate(contenders)
        ]


def _turn(appends: Iterator[Callable[[], None]], seconds: float, most: int) -> list[float]:
    """How long each append took, until the time is over."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or (time.perf_counter() < end and len(taken) < most):
        append = next(appends)
        started = time.perf_counter()
        append()
        taken.append(time.perf_counter() - started)
    return taken


def _measured(contender: _Contender, size: int, taken: list[float], floor: float) -> Measured:
    p50 = _quantile(taken, 0.5)
    return Measured(
        store=contender.name,
        directory=str(contender.directory),
        entries=size,
        appends=len(taken),
        p50_ms=p50 * 1000,
        p99_ms=_quantile(taken, 0.99) * 1000,
        of_file=p50 / floor,
        power_safe=contender.power_safe,
    )


def _quantile(values: Sequence[float], part: float) -> float:
    """The least value that so large a part of all do not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


# -- who takes part ---------------------------------------------------------------------------------


class _Contender:
    """A bare file, or a new store.

    Attributes:
        name: as it was given.
        directory: where it writes, for whoever reads the result.
        power_safe: what it says of itself.
        start: begins a log; gives appends of so many entries each, prepared as far as a node would have.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        power_safe: bool,
        start: Callable[[int], Iterator[Callable[[], None]]],
    ) -> None:
        self.name: Final = name
        self.directory: Final = directory
        self.power_safe: Final = power_safe
        self.start: Final = start


def _contenders(urls: Sequence[str], directory: Path, undo: ExitStack) -> list[_Contender]:
    """All of them, open; each directory's file first."""
    files: dict[Path, _Contender] = {}
    stores: list[_Contender] = []
    for text in dict.fromkeys(urls):
        url = StorageURL.parse(text)
        where = _directory_of(url, directory)
        scratch = _scratch(where, undo)
        if where not in files:
            files[where] = _file(where, scratch, undo)
        stores.append(_store(text, url, where, scratch, undo))
    return [*files.values(), *stores]


def _directory_of(url: StorageURL, directory: Path) -> Path:
    if url.host:
        raise ConfigError(f"{url} is a server's; this measures disks of this machine")
    path = url.file_path()
    if path is None:
        return directory
    return next(each for each in path.parents if each.is_dir())


def _scratch(directory: Path, undo: ExitStack) -> Path:
    try:
        made = tempfile.TemporaryDirectory(prefix=".mosaik-bench-", dir=directory)
    except OSError as error:
        raise StorageUnavailable(
            f"nothing can be written in {directory}: {error.strerror}; name another with --directory"
        ) from error
    return Path(undo.enter_context(made))


def _file(directory: Path, scratch: Path, undo: ExitStack) -> _Contender:
    def start(size: int) -> Iterator[Callable[[], None]]:
        file = BareFile(scratch / f"file-{size}")
        undo.callback(file.close)
        return (_appending(file, batch) for batch in sealed_batches(size))

    return _Contender(_FILE, directory, True, start)


def _appending(file: BareFile, batch: list[Entry[Any]]) -> Callable[[], None]:
    blob = join_sealed(batch)
    return lambda: file.append(blob)


def _store(
    name: str, url: StorageURL, directory: Path, scratch: Path, undo: ExitStack
) -> _Contender:
    place = msgspec.structs.replace(url, path=str(scratch / "store")) if url.path else url
    environment = open_storage(place, peer=_PEER, data_dir=scratch)
    undo.callback(environment.close)

    def start(size: int) -> Iterator[Callable[[], None]]:
        group = bytes([size % 251 + 1]) * 32
        log: Storage[Any] = environment.log(LogIdentity(group=group, peer=_PEER, key=group))
        return (_storing(log, batch) for batch in sealed_batches(size))

    power_safe = Capability.POWER_SAFE in environment.describe().capabilities
    return _Contender(name, directory, power_safe, start)


def _storing(log: Storage[Any], batch: list[Entry[Any]]) -> Callable[[], None]:
    return lambda: log.append(batch)
