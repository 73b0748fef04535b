"""What a leader knows about one member: how far its log agrees, and what is under way to it.

A follower is *probed*, one message at a time, until it confirms where its log joins ours; then entries
are *streamed* to it, a window of messages ahead of their acknowledgements.
"""

from __future__ import annotations

from collections import deque

import msgspec

from mosaik.primitives.durable import Anchor

__all__ = ["Progress"]


class Progress(msgspec.Struct):
    """One member, in the eyes of its leader.

    Attributes:
        next: index of the next entry to send.
        match: highest index known to be durable there, and equal.
        streaming: entries are sent ahead of acknowledgements.
        outstanding: the last indices of unacknowledged messages, ascending.
        probing: a probe is under way; the next goes with the next heartbeat.
        fetching: first index of entries awaited from our own store; 0 without.
        joint: the entry before ``next`` where memory does not hold it any more, once it was fetched.
        heard: when it last answered in this term.
        confirmed: the newest round it answered.
        caught_up: heartbeats in a row at which it held what our log ended with one earlier.
        sent_commit: the commit index that it was last told.
    """

    next: int
    heard: float
    match: int = 0
    streaming: bool = False
    outstanding: deque[int] = msgspec.field(default_factory=deque[int])
    probing: bool = False
    fetching: int = 0
    joint: Anchor | None = None
    confirmed: int = 0
    caught_up: int = 0
    sent_commit: int = 0

    def probe(self, following: int) -> None:
        """Starts over at ``following``: its log and ours have to be compared again."""
        self.next = following
        self.streaming = False
        self.probing = False
        self.outstanding.clear()

    def acknowledge(self, match: int, *, counted: bool) -> bool:
        """It holds everything up to ``match``; tells whether that is news.

        What does not count towards a majority makes room in the window all the same.
        """
        while self.outstanding and self.outstanding[0] <= match:
            self.outstanding.popleft()
        news = counted and match > self.match
        if counted:
            self.match = max(self.match, match)
        if not self.streaming:
            self.streaming = True
            self.next = max(self.next, match + 1)
        self.probing = False
        return news
