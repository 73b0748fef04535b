"""The rules themselves, by what they are about; importing this lists them."""

from __future__ import annotations

from mosaik.testing.storage.rulebook import (  # the order in which they are best tried
    batch,
    corruption,
    errors,
    group,
    hard,
    ident,
    kill,
    log,
    model,
    power,
    read,
)

__all__ = [
    "batch",
    "corruption",
    "errors",
    "group",
    "hard",
    "ident",
    "kill",
    "log",
    "model",
    "power",
    "read",
]
