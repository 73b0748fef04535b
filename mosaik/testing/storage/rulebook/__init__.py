"""The rules themselves, by what they are about; importing this lists them."""

from __future__ import annotations

from mosaik.testing.storage.rulebook import log, power

__all__ = ["log", "power"]
