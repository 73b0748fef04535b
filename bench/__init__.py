"""Measurements: storage against the floor, a group against its peers, all in one run."""

from __future__ import annotations

__all__: list[str] = []
