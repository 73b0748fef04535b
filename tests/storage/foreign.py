"""The example of a foreign backend, installed as a stranger's package would be."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path

__all__ = ["ALWAYS_ANEW", "PACKAGE", "URL", "install", "installed"]

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "examples" / "mosaik-storage-file"
URL = "file://{place}/store.log"
#: The same, with a new file for every commit.
ALWAYS_ANEW = f"{URL}?compact_at=1&compact_above=0"


def install(site: Path) -> None:
    """Installs the package, with its metadata, into a directory; needs no network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*command, str(PACKAGE)], check=True, capture_output=True, text=True)


@contextmanager
def installed() -> Generator[None]:
    """The package can be imported, here and in the processes that the kit starts."""
    with tempfile.TemporaryDirectory() as site:
        install(Path(site))
        sys.path.insert(0, site)
        invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(site)
