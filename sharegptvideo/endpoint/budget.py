"""What calls have cost together, and the limit that none of them may cross."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from sharegptvideo.endpoint.faults import BudgetError

__all__ = ["Meter", "dollars"]


class Meter:
    """Counts requests, tokens and US dollars over all clients that share it; safe for threads.

    Attributes:
        spent: US dollars.
        requests: calls that were answered and counted.
        cached: answers that came from the cache.
        tokens: tokens of the counted calls.
    """

    def __init__(self) -> None:
        self.spent = 0.0
        self.requests = 0
        self.cached = 0
        self.tokens = 0
        self._reserved: list[float] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    async def reserve(self, amount: float, most: float | None) -> None:
        """Set `amount` dollars aside, the most that a call can cost, before it is sent.

        Where they would cross `most`, waits for calls under way, which mostly cost less than was
        set aside for them.

        Raises:
            BudgetError: nothing is under way, and they would still cross it.
        """
        while True:
            with self._lock:
                together = self.spent + sum(self._reserved) + amount
                if most is None or together <= most:
                    self._reserved.append(amount)
                    return
                if not self._reserved:
                    raise BudgetError(
                        f"stopped before --max-cost {dollars(most)}: {dollars(self.spent)} spent,"
                        f" and one more call could cost {dollars(amount)}; all answers that were"
                        " paid for are kept: raise --max-cost and run again to go on"
                    )
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
            await turn

    def settle(self, reserved: float, cost: float, tokens: int = 0, *, requests: int = 1) -> None:
        """Put what a call cost in the place of what was set aside for it."""
        with self._lock:
            self._reserved.remove(reserved)
            self.spent += cost
            self.tokens += tokens
            self.requests += requests
            waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                turn.get_loop().call_soon_threadsafe(_wake, turn)

    def hit(self) -> None:
        """Count an answer from the cache."""
        with self._lock:
            self.cached += 1


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def dollars(amount: float) -> str:
    """An amount to read.

    >>> dollars(12.3), dollars(0.00042), dollars(0)
    ('$12.30', '$0.00042', '$0.00')
    """
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.2g}"
