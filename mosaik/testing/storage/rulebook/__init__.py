"""The rules themselves, by what they are about; importing this lists them."""

from __future__ import annotations

from mosaik.testing.storage.rulebook import errors, kill, log, power

__all__ = ["errors", "kill", "log", "power"]
