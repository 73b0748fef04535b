"""Ports for processes that must find each other again after a restart."""

from __future__ import annotations

import random
import socket
from typing import Final

__all__ = ["free_ports"]

#: Below what Linux hands out to outgoing connections (32768 on), so that no connection takes the
#: port of a process that is being restarted.
_RANGE: Final = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on at this moment."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if len(ports) == count:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports
