"""As many calls at once as the server can take, and never more than allowed.

The number grows from a few, doubling until the server refuses a quarter of them, then by a
twentieth a round, faster after many rounds without complaint; it falls by the share of calls that
the server refuses (additive increase, multiplicative decrease, as in TCP). Each fall is checked:
where the server then accepts no larger share of the calls, the refusals do not depend on their
number; the slots come back, and so many refusals count as usual from then on. Where answers take
more than four times as long as they did, a quarter of the slots is given back on trial: if the rate
stays the same, they were only a queue at the server and stay away; if it falls, they come back.
From three times on, more slots are a trial too, and go again unless they bring speed. Calls count
for the number that they were begun under.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

__all__ = ["AdaptiveConcurrency"]

_FIRST = 8
# Refusals below this share are noise: a server that is busy for others too has some. A doubling
# too far shows in a larger share, and only few calls are counted until then.
_NOISE = 0.05
_NOISE_DOUBLING = 0.25
# Calls to judge by where some are refused, and after a fall: the share in fewer is chance.
_CHECKED = 40
# What a round with fewer refusals than usual counts in the usual share.
_NEWEST = 0.1
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
        self._usual, self._quiet = 0.0, 0
        self._fall: tuple[int, float, bool] | None = None
        self._begin()

    def _begin(self) -> None:
        self._seconds: list[float] = []
        self._refused = 0
        self._since = self._now()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots, after waiting for it: first come, first served."""
        await self.enter()
        try:
            yield
        finally:
            self.leave()

    async def enter(self) -> None:
        """Wait for a slot and take it; `leave` gives it back."""
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

    def leave(self) -> None:
        """Give a slot back."""
        self.active -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.active < self.limit:
            ticket = self._waiting.popleft()
            if not ticket.done():
                self.active += 1
                ticket.set_result(None)

    def record(self, seconds: float, *, refused: bool) -> None:
        """Record how long a call took, and whether the server refused it for lack of room."""
        if self.active > self.limit:  # begun under an earlier limit: says nothing of this one
            self._begin()
            return
        if refused:
            self._refused += 1
        else:
            self._seconds.append(seconds)
        share = self._refused / (len(self._seconds) + self._refused)
        unclear = self._fall is not None or self._usual + self._noise < share <= 0.5
        calls = max(self.limit, _CHECKED if unclear else _FIRST)
        if len(self._seconds) + self._refused >= calls:
            self._end_round()
            self._admit()

    @property
    def _noise(self) -> float:
        """The share of refusals that says nothing."""
        return _NOISE_DOUBLING if self._doubling else _NOISE

    def _end_round(self) -> None:
        count = len(self._seconds) + self._refused
        share = self._refused / count
        elapsed = max(self._now() - self._since, 1e-9)
        rate = len(self._seconds) / elapsed
        chance = 2 * math.sqrt(self._usual * (1 - self._usual) / count)
        if self._had_no_effect(share):
            pass
        elif share > self._usual + self._noise + chance:
            self._fall = (self.limit, 1 - share, self._doubling)
            self.limit = max(1, int(self.limit * (1 - min(share - self._usual, 0.5))))
            self._doubling, self._trial, self._quiet = False, None, 0
        elif self._seconds:
            self._usual += _NEWEST * min(0.0, share - self._usual)
            self._adapt(statistics.median(self._seconds), rate)
        self._begin()

    def _had_no_effect(self, share: float) -> bool:
        """Take back the last fall, if one is to be checked and it did not lower the refusals.

        A server with so many slots accepts a share that grows as the calls get fewer. Midway
        between that and no growth is where the line is drawn.
        """
        fall, self._fall = self._fall, None
        if fall is None or share <= self._usual + self._noise:
            return False
        before, accepted, doubling = fall
        if 1 - share >= accepted * (1 + before / self.limit) / 2:
            return False
        self._usual = share
        self.limit, self._doubling = before, doubling
        return True

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
        self._quiet = 0

    def _grow(self) -> None:
        self._quiet += 1
        more = max(1, round(self.limit * _STEP), self._quiet // 2)
        more = self.limit if self._doubling else more
        self.limit = min(self.maximum, self.limit + more)
