"""What everything else is made of: identifiers, cursors, sealed entries, membership, errors.

Import from the modules themselves, such as ``mosaik.primitives.errors``: each is small, and nothing
here is loaded that is not used.
"""

from __future__ import annotations

__all__: list[str] = []
