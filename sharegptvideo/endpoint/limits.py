"""What all calls of a model share: slots, Retry-After, requests and tokens a minute, money.

A call takes a lease before it is sent and gives it back with what it took. `LocalLimits` holds for
one process. For several, one process has a `SharedLimits`, and each of the others a `RemoteLimits`
that calls its methods over a connection of any kind:

    shared = SharedLimits(rules)                                   # in one process
    options = EndpointOptions(limits=functools.partial(RemoteLimits, call))  # in each of the others

where `call(method, *arguments)` is awaited and gives what that method of `shared` returns; all
values can be pickled. A worker that holds leases shows that it lives; where it does not, its leases
are released, and what was set aside for its calls counts as spent, since they may be billed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sharegptvideo.endpoint.adaptive_concurrency import AdaptiveConcurrency
from sharegptvideo.endpoint.budget import Budget
from sharegptvideo.endpoint.rate_limit import RateLimiter
from sharegptvideo.endpoint.server_errors import LONGEST_WAIT, BudgetError

__all__ = [
    "DROPPED",
    "Clock",
    "Lease",
    "LimitRules",
    "Limits",
    "LocalLimits",
    "Need",
    "Outcome",
    "RemoteLimits",
    "SharedLimits",
]

# Weight of the newest answer in the moving average of their tokens.
_NEWEST = 0.05
_SILENCE_S = 60.0
DROPPED = "dropped"
# Signs of life in the time after which a worker counts as gone.
_BEATS = 4


@dataclass(frozen=True, slots=True)
class Clock:
    """What waits before new attempts go by.

    Attributes:
        now: seconds since some moment.
        sleep: wait so many seconds.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class LimitRules:
    """The numbers that are kept to; see `EndpointOptions`."""

    concurrency: int = 32
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None


class Lease(NamedTuple):
    """A call that may be sent: who asked for it ("" in the same process), and its number there."""

    worker: str
    number: int


@dataclass(frozen=True, slots=True)
class Need:
    """What a call may take.

    Attributes:
        prompt: tokens of its prompt, as a guess.
        answer: tokens of its answer, as a guess until answers have come.
        most: US dollars that it cannot exceed.
    """

    prompt: float
    answer: float
    most: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call took.

    Attributes:
        tokens: of prompt and answer, or what may have been computed of it; for the rate.
        answer: tokens of its answer; None where none came.
        dollars: what it cost, or may have cost.
        seconds: how long it was under way.
        overloaded: the server refused it for lack of room.
    """

    tokens: float
    answer: float | None
    dollars: float
    seconds: float
    overloaded: bool


class Limits(ABC):
    """What all calls of a model share, for one event loop at a time."""

    @abstractmethod
    async def begin(self, need: Need) -> Lease:
        """Wait until a call may be sent; `end` gives the lease back.

        Raises:
            BudgetError: it could cross the limit of money.
        """

    @abstractmethod
    def end(self, lease: Lease, outcome: Outcome) -> None:
        """Give a lease back, with what its call took."""

    @abstractmethod
    def withdraw(self, lease: Lease) -> None:
        """Give a lease back whose call was not sent."""

    @abstractmethod
    def hold_back(self, seconds: float) -> None:
        """Let no call begin for so long: the server asked for it."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Have what was reported arrive, before the event loop ends."""


@dataclass(slots=True)
class _Held:
    """A lease that is waited for (`reserved` is None) or under way.

    Attributes:
        task: waits for it.
        guess: tokens that the rate counts until the call has ended.
        reserved: US dollars that are set aside.
        has_slot: whether it holds one of the slots.
    """

    task: asyncio.Task[Any] | None
    guess: float = 0.0
    reserved: float | None = None
    has_slot: bool = False


class LocalLimits(Limits):
    """The limits of a model in the process that holds them, for itself or for several workers."""

    def __init__(
        self,
        rules: LimitRules,
        budget: Budget,
        *,
        clock: Clock | None = None,
        silence: float = _SILENCE_S,
    ) -> None:
        """Prepare.

        Args:
            rules: the numbers.
            budget: what has been spent; shared with other models.
            clock: what Retry-After and silence go by.
            silence: seconds without a sign of life after which a worker counts as gone.
        """
        self.silence = silence
        self._clock = clock or Clock()
        self._budget, self._max_cost = budget, rules.max_cost
        self._concurrency = AdaptiveConcurrency(rules.concurrency)
        self._rate_limiter = RateLimiter(rules.rpm, rules.tpm)
        self._not_before = 0.0
        self._typical_answer: float | None = None
        self._numbers = itertools.count()
        self._held: dict[Lease, _Held] = {}
        self._withdrawn: set[Lease] = set()
        self._written_off: dict[Lease, float] = {}
        self._seen: dict[str, float] = {}

    async def begin(self, need: Need, lease: Lease | None = None) -> Lease:
        """Wait until a call may be sent; a worker names the `lease`."""
        lease = lease or Lease("", next(self._numbers))
        if lease in self._withdrawn:  # the word of it was faster
            self._withdrawn.discard(lease)
            raise asyncio.CancelledError
        self.alive(lease.worker)
        held = self._held[lease] = _Held(asyncio.current_task())
        try:
            await self._concurrency.enter()
            held.has_slot = True
            typical = self._typical_answer
            held.guess = need.prompt + (need.answer if typical is None else typical)
            await self._wait_turn()
            await self._rate_limiter.acquire(held.guess)
            await self._budget.reserve(need.most, self._max_cost)
            held.reserved = need.most
        except BaseException:
            del self._held[lease]
            if held.has_slot:
                self._concurrency.leave()
            raise
        return lease

    async def _wait_turn(self) -> None:
        while (left := self._not_before - self._clock.now()) > 0:
            await self._clock.sleep(min(left, LONGEST_WAIT))

    def end(self, lease: Lease, outcome: Outcome) -> None:
        """Give a lease back; one that was written off is corrected by what its call did take."""
        counted = outcome.answer is not None
        tokens = round(outcome.tokens) if counted else 0
        held = self._held.pop(lease, None)
        if held is None:
            if lease in self._written_off:
                cost = outcome.dollars - self._written_off.pop(lease)
                self._budget.commit(None, cost, tokens, requests=int(counted))
            return
        self.alive(lease.worker)
        if outcome.answer is not None:
            before = self._typical_answer or outcome.answer
            self._typical_answer = outcome.answer + (1 - _NEWEST) * (before - outcome.answer)
        self._budget.commit(held.reserved, outcome.dollars, tokens, requests=int(counted))
        self._rate_limiter.correct(held.guess, outcome.tokens)
        self._concurrency.record(outcome.seconds, refused=outcome.overloaded)
        self._concurrency.leave()

    def hold_back(self, seconds: float) -> None:
        """Let no call begin for so long."""
        self._not_before = max(self._not_before, self._clock.now() + seconds)

    def withdraw(self, lease: Lease) -> None:
        """Take a lease back, or the wish for one: its call is not sent."""
        held = self._held.get(lease)
        if held is not None:
            self._release(lease, held, cost=0.0)
        elif lease in self._written_off:
            self._budget.commit(None, -self._written_off.pop(lease), requests=0)
        else:
            self._withdrawn.add(lease)

    def _release(self, lease: Lease, held: _Held, cost: float) -> None:
        if held.reserved is None:
            if held.task is not None:
                held.task.cancel()
            return
        del self._held[lease]
        self._budget.commit(held.reserved, cost, requests=0)
        self._concurrency.leave()

    def alive(self, worker: str) -> None:
        """Note that a worker lives, and drop those that have not shown it for too long."""
        now = self._clock.now()
        if worker:
            self._seen[worker] = now
        for other, seen in list(self._seen.items()):
            if now - seen > self.silence:
                self.drop(other)

    def drop(self, worker: str) -> int:
        """Release the leases of a worker that is gone, and return how many calls it had begun.

        What is set aside for these counts as spent: they may have been answered, and be billed.
        """
        self._seen.pop(worker, None)
        begun = 0
        for lease, held in [each for each in self._held.items() if each[0].worker == worker]:
            if held.reserved is not None:
                self._written_off[lease] = held.reserved
                begun += 1
            self._release(lease, held, cost=held.reserved or 0.0)
        return begun


class SharedLimits:
    """The limits of all models and the budget, for workers that call its methods from elsewhere.

    All arguments and results can be pickled. Methods belong to one event loop, and `begin` may wait
    for long there: let as many calls as all workers have at once be under way.
    """

    def __init__(
        self,
        rules: LimitRules,
        *,
        spent: float = 0.0,
        clock: Clock | None = None,
        silence: float = _SILENCE_S,
    ) -> None:
        """Prepare; `spent` are US dollars of before. See `LocalLimits`."""
        self._rules, self._clock, self._silence = rules, clock, silence
        self._budget = Budget()
        self._budget.commit(None, spent, requests=0)
        self._limits: dict[str, LocalLimits] = {}

    def _of(self, name: str) -> LocalLimits:
        if name not in self._limits:
            self._limits[name] = LocalLimits(
                self._rules, self._budget, clock=self._clock, silence=self._silence
            )
        return self._limits[name]

    async def begin(self, name: str, lease: Lease, need: Need) -> str | None:
        """Wait for a lease of the model `name`, and return None; or why it is not to be had.

        That is `DROPPED` for a worker that was silent for too long, and may ask again; else there
        is no money.
        """
        await self.alive(lease.worker)
        limits = self._of(name)
        waits = asyncio.ensure_future(limits.begin(need, lease))  # what a drop cancels
        try:
            await asyncio.wait({waits})
        except asyncio.CancelledError:
            limits.withdraw(lease)
            raise
        if waits.cancelled():
            return DROPPED
        try:
            waits.result()
        except BudgetError as error:
            return str(error)
        return None

    async def end(self, name: str, lease: Lease, outcome: Outcome) -> None:
        """Give a lease back."""
        self._of(name).end(lease, outcome)

    async def withdraw(self, name: str, lease: Lease) -> None:
        """Take a lease back, or the wish for one: its call is not sent."""
        self._of(name).withdraw(lease)

    async def hold_back(self, name: str, seconds: float) -> None:
        """Let no call of a model begin for so long."""
        self._of(name).hold_back(seconds)

    async def alive(self, worker: str) -> None:
        """Note that a worker lives, and release the leases of those that do not."""
        for limits in self._limits.values():
            limits.alive(worker)

    async def drop(self, worker: str) -> int:
        """Release the leases of a worker that is gone; see `LocalLimits.drop`."""
        return sum(limits.drop(worker) for limits in self._limits.values())

    async def figures(self) -> dict[str, float]:
        """Return US dollars spent, requests answered, and tokens, of all workers together."""
        budget = self._budget
        return {"spent": budget.spent, "requests": budget.requests, "tokens": budget.tokens}


class RemoteLimits(Limits):
    """The limits of a model that another process holds; see the module's first lines."""

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        name: str,
        *,
        silence: float = _SILENCE_S,
    ) -> None:
        """Prepare; nothing is called yet.

        Args:
            call: calls a method of `SharedLimits` by its name and arguments.
            name: of the model.
            silence: as `SharedLimits` has it; life is shown four times as often.
        """
        self.name = name
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._call, self._pause = call, silence / _BEATS
        self._numbers = itertools.count()
        self._open: set[Lease] = set()
        self._heart: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: Exception | None = None

    async def begin(self, need: Need) -> Lease:
        """Wait until a call may be sent."""
        if self._failed is not None:
            raise self._failed
        refusal = DROPPED
        while refusal == DROPPED:
            lease = Lease(self.worker, next(self._numbers))
            self._open.add(lease)
            self._show_life()
            try:
                refusal = await self._call("begin", self.name, lease, need)
            except BaseException:  # cancelled too: it may be granted all the same
                self.withdraw(lease)
                raise
            if refusal is None:
                return lease
            self._open.discard(lease)
        raise BudgetError(refusal)

    def end(self, lease: Lease, outcome: Outcome) -> None:
        """Report what a call took; the report is under way when this returns."""
        self._open.discard(lease)
        self._send("end", self.name, lease, outcome)

    def withdraw(self, lease: Lease) -> None:
        """Report that a call is not sent."""
        self._open.discard(lease)
        self._send("withdraw", self.name, lease)

    def hold_back(self, seconds: float) -> None:
        """Report that the server asked for a pause."""
        self._send("hold_back", self.name, seconds)

    def _show_life(self) -> None:
        loop = asyncio.get_running_loop()
        if self._heart is None or self._heart.done() or self._heart.get_loop() is not loop:
            self._heart = loop.create_task(self._beat())

    async def _beat(self) -> None:
        while self._open:
            await asyncio.sleep(self._pause)
            await self._try("alive", self.worker)

    def _send(self, method: str, *arguments: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._try(method, *arguments))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _try(self, method: str, *arguments: Any) -> None:
        try:
            await self._call(method, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever the connection raises: the next call does
            self._failed = error

    async def close(self) -> None:
        """Have what was reported arrive."""
        if self._heart is not None and not self._heart.done():
            self._heart.cancel()
        self._heart = None
        await asyncio.gather(*self._under_way)
