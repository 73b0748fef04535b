"""``python -m mosaik`` is the ``mosaik`` command."""

from __future__ import annotations

import sys

from mosaik.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
