"""The store, tried by mosaik's conformance kit: one test for every rule."""

from __future__ import annotations

from mosaik.testing.storage import StorageConformance, Subject


class TestFile(StorageConformance):
    """As it comes."""

    subject = Subject("file://{place}/store.log")


class TestCompacting(StorageConformance):
    """The same, with a new file for every commit."""

    subject = Subject("file://{place}/store.log?compact_at=1&compact_above=0")
