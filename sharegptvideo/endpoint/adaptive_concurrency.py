"""As many calls at once as the server can take, and never more than allowed.

The number grows from a few, doubling until the server first complains, then by a twentieth a
round; it falls by the share of calls that the server refuses (additive increase, multiplicative
decrease, as in TCP). Where answers take more than four times as long as they did, a quarter of the
slots is given back on trial: if the rate stays the same, they were only a queue at the server and
stay away; if it falls, they come back. From three times on, more slots are a trial too, and go
again unless they bring speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

__all__ = ["AdaptiveConcurrency"]

_FIRST = 8
# Refusals below this share are noise: a server that is busy for others too has some.
_NOISE = 0.05
_STEP = 0.05
_QUEUED = 4.0
# What a trial with fewer slots may cost of the rate, and what one with more has to bring.
_LOST, _WON = 0.95, 1.05
_DRIFT = 1.002
# Rounds without another trial after one that went wrong.
_REST_ROUNDS = 20


class AdaptiveConcurrency:
    """A bound on the calls of one event loop at a time, adapted to what the server can take.

    >>> AdaptiveConcurrency(64).limit
    8
    """

    def __init__(self, maximum: int, *, now: Callable[[], float] = time.monotonic) -> None:
        """`maximum`: calls at once, whatever the server can take; `now`: a clock in seconds."""
        self.maximum = maximum
        self.limit = min(maximum, _FIRST)
        self.active = 0
        self._now = now
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._doubling = True
        self._fastest: float | None = None
        self._trial: tuple[int, float] | None = None
        self._rest, self._helpful = 0, False
        self._begin()

    def _begin(self) -> None:
        self._seconds: list[float] = []
        self._refused = 0
        self._since = self._now()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots, after waiting for it: first come, first served."""
        await self._enter()
        try:
            yield
        finally:
            self.active -= 1
            self._admit()

    async def _enter(self) -> None:
        if self.active < self.limit and not self._waiting:
            self.active += 1
            return
        ticket = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():  # let in, and gone at the same moment
                self.active -= 1
                self._admit()
            else:
                self._waiting.remove(ticket)
            raise

    def _admit(self) -> None:
        while self._waiting and self.active < self.limit:
            ticket = self._waiting.popleft()
            if not ticket.done():
                self.active += 1
                ticket.set_result(None)

    def record(self, seconds: float, *, refused: bool) -> None:
        """Record how long a call took, and whether the server refused it for lack of room."""
        if refused:
            self._refused += 1
        else:
            self._seconds.append(seconds)
        if len(self._seconds) + self._refused >= max(self.limit, _FIRST):
            self._end_round()
            self._admit()

    def _end_round(self) -> None:
        count = len(self._seconds) + self._refused
        share = self._refused / count
        elapsed = max(self._now() - self._since, 1e-9)
        rate = len(self._seconds) / elapsed
        if share > _NOISE:
            self.limit = max(1, int(self.limit * (1 - min(share, 0.5))))
            self._doubling, self._trial = False, None
        elif self._seconds:
            self._adapt(statistics.median(self._seconds), rate)
        self._begin()

    def _adapt(self, seconds: float, rate: float) -> None:
        """Change the limit after a round that took `seconds` a call and gave `rate` a second."""
        fastest = min(seconds, self._fastest or seconds)
        # It may have been luck: what is held for possible grows a little.
        self._fastest = fastest * _DRIFT
        if self._trial is not None:
            (before, rate_before), self._trial = self._trial, None
            fewer = self.limit < before
            if rate < rate_before * (_LOST if fewer else _WON):
                # More slots help where fewer were slower, and do not where more were no faster.
                self.limit, self._rest, self._helpful = before, _REST_ROUNDS, fewer
                return
        if self._rest:
            self._rest -= 1
            if self._helpful:
                self._grow()
        elif seconds > _QUEUED * fastest and self.limit > 1:
            self._try(self.limit * 3 // 4, rate)
        elif seconds > (_QUEUED - 1) * fastest:
            self._try(min(self.maximum, self.limit * 5 // 4 + 1), rate)
        else:
            self._grow()

    def _try(self, limit: int, rate: float) -> None:
        self._trial, self.limit, self._doubling = (self.limit, rate), max(1, limit), False

    def _grow(self) -> None:
        more = self.limit if self._doubling else max(1, round(self.limit * _STEP))
        self.limit = min(self.maximum, self.limit + more)
