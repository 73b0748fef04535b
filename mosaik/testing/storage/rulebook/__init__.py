"""The rules themselves, by what they are about; importing this lists them."""

from __future__ import annotations

from mosaik.testing.storage.rulebook import corruption, errors, kill, log, power

__all__ = ["corruption", "errors", "kill", "log", "power"]
