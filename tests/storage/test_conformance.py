"""The built-in backends, tried by the kit that is offered to everybody else's."""

from __future__ import annotations

from mosaik.testing.storage import StorageConformance, Subject


class TestMemory(StorageConformance):
    subject = Subject("memory://")


class TestSqlite(StorageConformance):
    subject = Subject("sqlite://{place}/store.db")


class TestLmdb(StorageConformance):
    subject = Subject("lmdb://{place}/store")


class TestRocksdb(StorageConformance):
    subject = Subject("rocksdb://{place}/store")
