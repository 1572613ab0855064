"""How many calls at once, and how many a minute: by a clock that the tests turn."""

from __future__ import annotations

import asyncio
import random
import selectors
import statistics
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sharegptvideo.endpoint.adaptive_concurrency import AdaptiveConcurrency
from sharegptvideo.endpoint.rate_limit import RateLimiter


class Clock:
    """A clock that only moves when the test moves it."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def play(
    concurrency: AdaptiveConcurrency, clock: Clock, slots: int, rounds: int, *, refuses: bool
) -> list[int]:
    """The limit after each round at a server with `slots` slots of 1 s each.

    Beyond them it refuses calls at once, or lets them wait.
    """
    limits = []
    for _ in range(rounds):
        calls = concurrency.limit
        refused = max(0, calls - slots) if refuses else 0
        seconds = 1.0 if refuses else max(1.0, calls / slots)
        for number in range(max(calls, 8)):
            # A round lasts as long as the server needs for its calls.
            clock.time += seconds / max(calls, 8)
            concurrency.record(seconds, refused=number < refused)
        limits.append(concurrency.limit)
    return limits


def test_it_doubles_up_to_what_is_allowed() -> None:
    clock = Clock()
    assert play(AdaptiveConcurrency(100, now=clock), clock, 1000, 6, refuses=False) == [
        16,
        32,
        64,
        100,
        100,
        100,
    ]


def test_it_settles_at_what_a_server_takes() -> None:
    clock = Clock()
    limits = play(AdaptiveConcurrency(64, now=clock), clock, 20, 60, refuses=True)
    assert max(limits) == 32
    assert all(18 <= limit <= 25 for limit in limits[20:])


def test_slots_that_only_wait_in_line_are_given_back() -> None:
    clock = Clock()
    limits = play(AdaptiveConcurrency(256, now=clock), clock, 8, 80, refuses=False)
    # Answers take at most four times as long as they could: 8 slots, so 32 calls; now and then a
    # quarter more on trial.
    assert set(limits[2:]) == {32, 41}
    assert limits.count(41) <= 4


def test_slots_that_do_help_come_back() -> None:
    """A server that computes many calls together is slower for each, and faster for all."""
    clock = Clock()
    concurrency = AdaptiveConcurrency(64, now=clock)
    limits = []
    for _ in range(60):
        calls = concurrency.limit
        seconds = 1.0 if calls <= 16 else 8.0 * calls / 64  # slower, and yet the rate rises
        rate = calls / 4
        for _ in range(max(calls, 8)):
            clock.time += 1 / rate
            concurrency.record(seconds, refused=False)
        limits.append(concurrency.limit)
    assert sum(limit >= 60 for limit in limits[15:]) >= 42


def test_a_few_refusals_are_noise() -> None:
    clock = Clock()
    concurrency = AdaptiveConcurrency(100, now=clock)
    play(concurrency, clock, 1000, 5, refuses=False)
    for number in range(1000):
        clock.time += 0.01
        concurrency.record(1.0, refused=number % 25 == 0)
    assert concurrency.limit == 100


@pytest.mark.parametrize("seed", range(8))
def test_refusals_whatever_the_load_cost_no_slots(seed: int) -> None:
    """A tenth is refused at random: the slots come back, where they went down to 1 before."""
    chance = random.Random(seed)
    clock = Clock()
    concurrency = AdaptiveConcurrency(128, now=clock)
    limits = []
    for _ in range(3000):
        clock.time += 1 / concurrency.limit
        concurrency.record(1.0, refused=chance.random() < 0.1)
        limits.append(concurrency.limit)
    assert statistics.mean(limits[1500:]) > 90


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: the loop's time goes on by as much as it would have waited."""

    time = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        self.time += 0.0 if ready else timeout or 0.0
        return ready


def served(seed: int, *, slots: int | None) -> tuple[float, float]:
    """Return the seconds of 600 calls, 128 at once, and the share of requests that were refused.

    A call takes about a second; a tenth is refused, and what goes beyond `slots`, within 50 ms;
    tried again as `Sender` does.
    """
    chance, selector, now, outcomes = random.Random(seed), _Skipping(), 0, Counter[bool]()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.time  # type: ignore[method-assign]  # a loop has no other clock
    concurrency = AdaptiveConcurrency(128, now=loop.time)

    async def call() -> None:
        nonlocal now
        for attempt in range(6):
            async with concurrency.slot():
                begun, now = loop.time(), now + 1
                refused = chance.random() < 0.1 or (slots is not None and now > slots)
                await asyncio.sleep(0.05 if refused else chance.uniform(0.5, 1.5))
                now -= 1
                outcomes[refused] += 1
                concurrency.record(loop.time() - begun, refused=refused)
            if not refused:
                return
            await asyncio.sleep(2**attempt * chance.uniform(0.75, 1.25))

    async def work(calls: Iterator[int]) -> None:
        for _ in calls:
            await call()

    async def everything() -> None:
        calls = iter(range(600))
        await asyncio.gather(*(work(calls) for _ in range(256)))

    try:
        loop.run_until_complete(everything())
    finally:
        loop.close()
    return selector.time, outcomes[True] / outcomes.total()


@pytest.mark.parametrize(("slots", "most_s", "most_refused"), [(None, 23, 0.13), (64, 42, 0.4)])
def test_600_calls_of_which_a_tenth_is_refused(
    slots: int | None, most_s: float, most_refused: float
) -> None:
    """At best 9 s, with 64 slots 11 s.

    Up to 62 s, and with 64 slots up to 81 s and half of the requests refused, where doubling ends
    at a twentieth and calls of before a fall count after it.
    """
    took = [served(seed, slots=slots) for seed in range(20)]
    assert max(seconds for seconds, _ in took) < most_s
    assert max(refused for _, refused in took) < most_refused


def test_a_server_that_takes_no_call_is_asked_by_one() -> None:
    clock = Clock()
    concurrency = AdaptiveConcurrency(64, now=clock)
    for _ in range(600):
        clock.time += 0.01
        concurrency.record(0.1, refused=True)
    assert concurrency.limit == 1


def test_no_more_are_let_in_than_the_limit_and_none_is_forgotten() -> None:
    concurrency, most, done = AdaptiveConcurrency(5), 0, 0

    async def call() -> None:
        nonlocal most, done
        async with concurrency.slot():
            most = max(most, concurrency.active)
            await asyncio.sleep(0)
        done += 1

    async def main() -> None:
        tasks = [asyncio.ensure_future(call()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks[3:30:3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    asyncio.run(call())  # another loop
    assert most == 5
    assert done == 50 - 9 + 1
    assert concurrency.active == 0


@pytest.mark.parametrize("rpm", [6, 60, 600])
def test_a_minute_holds_so_many_requests(rpm: int) -> None:
    clock = Clock()
    limiter = RateLimiter(rpm, None, now=clock)
    due = [clock.time + limiter.wait(100) for _ in range(3 * rpm)]
    for start in due:
        assert sum(start <= other < start + 60 for other in due) <= rpm + rpm / 60
    assert due[-1] - due[0] == pytest.approx(3 * 60, rel=0.1 if rpm > 6 else 0.2)


def test_a_minute_holds_so_many_tokens_and_wrong_guesses_are_made_up_for() -> None:
    clock = Clock()
    limiter = RateLimiter(None, 6000, now=clock)
    used = []
    for _ in range(60):
        clock.time += limiter.wait(50)
        limiter.correct(50, 200)  # each took four times the guess
        used.append((clock.time, 200))
    assert used[-1][0] - used[0][0] == pytest.approx(60 * 200 / 100, rel=0.05)


def test_a_pause_earns_a_second_and_not_more() -> None:
    clock = Clock()
    limiter = RateLimiter(600, None, now=clock)
    limiter.wait(1)
    clock.time += 1000
    at_once = sum(limiter.wait(1) == 0 for _ in range(100))
    assert at_once == 10


def test_without_limits_nobody_waits() -> None:
    limiter = RateLimiter(None, None)
    assert [limiter.wait(1e9) <= 0 for _ in range(5)] == [True] * 5
