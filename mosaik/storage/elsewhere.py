"""The watermark of a store that is elsewhere: what this node remembers of a server's.

Theory of operation
-------------------
A server may be restored from an old backup, or replaced by a standby that lags, and says nothing of it. So
a node that has a data directory keeps the watermark there. But the store is not this node's alone to open:
a tool may have emptied it meanwhile, or the node may have run without the directory, and then the marks
say nothing any more. The store's own count of openings tells: it is one more than the last that this node
knows of, or others have been there and the marks are made anew, or it is not even more, and time has gone
back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mosaik.primitives.errors import CorruptEntry, InternalError
from mosaik.storage.contract import SyncMode
from mosaik.storage.engine import Engine
from mosaik.storage.identity import claim
from mosaik.storage.record import STORE_KEY, StoreRecord, store_record
from mosaik.storage.watermark import Header, Watermark

__all__ = ["claim_elsewhere"]

#: No store is opened so often. Every attempt to open one counts, so that the count alone would catch up.
_NEVER: Final = (1 << 64) - 1


def claim_elsewhere(
    engine: Engine, epoch: int, peer: bytes, url: str, path: Path
) -> tuple[StoreRecord, Watermark]:
    """See `mosaik.storage.identity.claim`.

    Args:
        epoch: how often the store was opened, this time included.
        path: of the watermark.

    Raises:
        CorruptEntry: the store is of an earlier time than the watermark, too.
    """
    _compare(engine, epoch, url, path)
    # The watermark is on this machine's disk, whatever the server does with its own.
    record, watermark = claim(engine, peer, url, SyncMode.FULL, path)
    if watermark is None:
        raise InternalError("a watermark was read from nowhere")
    if watermark.header.epoch != epoch:
        watermark.write_header(watermark.header._replace(epoch=epoch))
    return record, watermark


def _compare(engine: Engine, epoch: int, url: str, path: Path) -> None:
    """Makes the watermark one that `claim` may rely on."""
    watermark = Watermark.open(path)
    if watermark is not None:
        try:
            known = watermark.header.epoch
            if epoch == known + 1:
                # Before anything is compared: who refuses the store must refuse it the next time, too.
                watermark.write_header(watermark.header._replace(epoch=epoch))
                return
            if epoch <= known:
                watermark.write_header(watermark.header._replace(epoch=_NEVER))
                raise CorruptEntry(
                    0,
                    f"it is of an earlier time than this node's last opening of it: the server was restored "
                    f"from a backup, replaced by a standby, or emptied. Bring back a newer one; or give "
                    f"this node's logs up with `mosaik log reset`. Then remove {path}",
                    url=url,
                )
        finally:
            watermark.close()
        path.unlink()
    blob = engine.meta(STORE_KEY)
    if blob is not None:
        store = store_record.decode(blob, url=url).store
        header = Header(store, SyncMode.FULL, bytes(16), clean=True, epoch=epoch)
        Watermark.create(path, header).close()
