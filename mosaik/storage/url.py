"""Where a store is, as one line of text.

``scheme://[user[:password]@host[:port]]/absolute/path[?option=value&...]``. Three slashes begin an
absolute path; a path is never relative, because the same program may be started from another
directory. A store without a path of its own is named by its scheme alone (``"lmdb"``) and lives in
the node's data directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from mosaik.primitives.errors import ConfigError
from mosaik.primitives.nearest import did_you_mean

__all__ = ["Seconds", "Size", "StorageURL", "check_option_names", "option_names", "read_options"]

O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741  # options

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)?", re.IGNORECASE)
_UNITS: Final[Mapping[str, int]] = {
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min)?")
_SECOND_UNITS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "min": 60.0}
#: No sensible URL is longer.
_MAX_LENGTH: Final = 8192


class Size(int):
    """A number of bytes, in options written as ``1048576``, ``512MiB`` or ``8GiB``."""

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """The number of bytes that the text means.

        Raises:
            ValueError: it is not a size.
        """
        match = _SIZE.fullmatch(str(text).strip())
        if match is None:
            raise ValueError(f"{text!r} is not a size such as 1048576, 512MiB or 8GiB")
        return cls(float(match[1]) * _UNITS[match[2].lower()] if match[2] else int(match[1]))


class Seconds(float):
    """A length of time, in options written as ``0.2``, ``200ms``, ``5s`` or ``2min``."""

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """The number of seconds that the text means.

        Raises:
            ValueError: it is not a length of time.
        """
        match = _SECONDS.fullmatch(str(text).strip())
        if match is None:
            raise ValueError(f"{text!r} is not a length of time such as 0.2, 200ms or 5s")
        return cls(float(match[1]) * _SECOND_UNITS[match[2] or "s"])


class StorageURL(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed storage URL.

    Attributes:
        scheme: which backend; also the whole of a bare name.
        path: absolute, percent-decoded; empty when none was given.
        user, password, host, port: of a server; empty (0) for a store in files.
        query: options as they were written, by name.
    """

    scheme: str
    path: str = ""
    user: str = ""
    password: str = ""
    host: str = ""
    port: int = 0
    query: Mapping[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a URL or a bare backend name.

        Raises:
            ConfigError: it is neither.
        """
        if len(text) > _MAX_LENGTH:
            raise ConfigError(f"a storage URL of {len(text)} characters; at most {_MAX_LENGTH}")
        if _SCHEME.fullmatch(text):
            return cls(scheme=text)
        name, colon, rest = text.partition("://")
        if not colon or not _SCHEME.fullmatch(name):
            raise ConfigError(
                f"{text!r} is neither a backend's name (such as lmdb) nor a URL of the form "
                f"scheme:///absolute/path?option=value"
            )
        try:
            parts = urlsplit(f"//{rest}", allow_fragments=False)
            port = parts.port or 0
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise ConfigError(
                f"the storage URL of scheme {name!r} is malformed: {error}"
            ) from error
        names = [key for key, _ in pairs]
        for key in names:
            if names.count(key) > 1:
                raise ConfigError(f"option {key!r} stands more than once in the URL of {name!r}")
        path = unquote(parts.path)
        return cls(
            scheme=name,
            path="" if path == "/" else path,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            host=parts.hostname or "",
            port=port,
            query=dict(pairs),
        )

    @classmethod
    def of_path(cls, scheme: str, path: Path, query: Mapping[str, str] | None = None) -> Self:
        """The URL of a store in files.

        Raises:
            ConfigError: the path is relative.
        """
        if not path.is_absolute():
            raise ConfigError(f"the path of a storage URL must be absolute, not {str(path)!r}")
        return cls(scheme=scheme, path=str(path), query=dict(query or {}))

    def file_path(self) -> Path | None:
        """The path of a store in files; None for a bare name.

        Raises:
            ConfigError: the URL names a host, as one with two slashes does.
        """
        if self.host:
            raise ConfigError(
                f"{self} names the host {self.host!r}; a path begins with a third slash: "
                f"{self.scheme}:///{self.host}{self.path}"
            )
        return Path(self.path) if self.path else None

    def text(self, *, password: bool = False) -> str:
        """The URL as text, with the password only when asked for."""
        if not (self.path or self.host or self.query):
            return self.scheme
        secret = quote(self.password, safe="") if password else "***"
        who = quote(self.user, safe="") + (f":{secret}" if self.password else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        where = (f"{who}@" if who else "") + host + (f":{self.port}" if self.port else "")
        options = "&".join(
            f"{quote(key, safe='')}={quote(value, safe='/:')}" for key, value in self.query.items()
        )
        return f"{self.scheme}://{where}{quote(self.path)}" + (f"?{options}" if options else "")

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"StorageURL({self.text()!r})"


def _from_text(kind: type, value: Any) -> Any:
    if issubclass(kind, Size | Seconds) and isinstance(value, str | int):
        return kind.parse(value)
    raise NotImplementedError(f"options of type {kind.__name__} are unsupported")


def option_names(options: type[msgspec.Struct]) -> list[str]:
    """What may stand in a URL's query."""
    return [field.encode_name for field in msgspec.structs.fields(options)]


def check_option_names(url: StorageURL, options: Sequence[type[msgspec.Struct]]) -> None:
    """Refuses an option that none of these has.

    Raises:
        ConfigError: it is misspelt; names the nearest right one.
    """
    names = [name for each in options for name in option_names(each)]
    for name in url.query:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ConfigError(f"{url.scheme} storage has no option {name!r}; {hint}")


def read_options(url: StorageURL, options: type[O]) -> O:
    """The URL's options in their types.

    Raises:
        ConfigError: an option is misspelt or its value is not one for it; names the nearest right one.
    """
    check_option_names(url, [options])
    for field in msgspec.structs.fields(options):
        if field.required and field.encode_name not in url.query:
            raise ConfigError(f"{url.scheme} storage needs the option {field.encode_name!r}")
    try:
        return msgspec.convert(dict(url.query), options, strict=False, dec_hook=_from_text)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"an option of {url} is not right: {error}") from error
