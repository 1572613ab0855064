"""Send no more requests and tokens a minute than an account allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["RateLimiter"]

# Servers count over parts of a minute too: only so many seconds' worth may come at once.
_BURST_S = 1.0


class RateLimiter:
    """Spacing of calls, so that a minute holds at most `rpm` requests and `tpm` tokens.

    What a call takes in tokens is a guess until it has answered; `correct` makes up for it, so
    that a wrong guess shifts later calls and not the sum. Usable from one event loop after another.
    """

    def __init__(
        self,
        rpm: float | None,
        tpm: float | None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rpm`, `tpm`: per minute, None for no limit; `now`: a clock in seconds."""
        self._per_request = 60.0 / rpm if rpm else 0.0
        self._per_token = 60.0 / tpm if tpm else 0.0
        self._now = now
        # When all that was let through will have been earned.
        self._requests_until = self._tokens_until = now()

    def wait(self, tokens: float) -> float:
        """Take the next place in line and return the seconds until it is due."""
        now = self._now()
        due = now
        if self._per_request:
            # The first second's worth may go at once, one request at the least.
            burst = max(0.0, _BURST_S - self._per_request)
            start = max(self._requests_until, now - burst)
            self._requests_until = start + self._per_request
            due = max(due, start)
        if self._per_token:
            start = max(self._tokens_until, now - _BURST_S)
            self._tokens_until = start + tokens * self._per_token
            due = max(due, start)
        return due - now

    async def acquire(self, tokens: float) -> None:
        """Wait until a call of `tokens` tokens, prompt and answer, may be sent."""
        seconds = self.wait(tokens)
        if seconds > 0:
            await asyncio.sleep(seconds)

    def correct(self, guessed: float, tokens: float) -> None:
        """Replace the guess by the tokens that a call took."""
        self._tokens_until += (tokens - guessed) * self._per_token
