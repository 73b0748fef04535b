"""The ``mosaik`` command."""

from __future__ import annotations

from mosaik.cli.app import main

__all__ = ["main"]
