"""How many calls at once, and how many a minute: by a clock that the tests turn."""

from __future__ import annotations

import asyncio

import pytest

from sharegptvideo.endpoint.adaptive_concurrency import Gate
from sharegptvideo.endpoint.rate_limit import Pace


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def play(gate: Gate, clock: Clock, slots: int, rounds: int, *, refuses: bool) -> list[int]:
    """The limit after each round at a server with `slots` slots of 1 s each.

    Beyond them it refuses calls at once, or lets them wait.
    """
    limits = []
    for _ in range(rounds):
        calls = gate.limit
        refused = max(0, calls - slots) if refuses else 0
        seconds = 1.0 if refuses else max(1.0, calls / slots)
        for number in range(max(calls, 8)):
            # A round lasts as long as the server needs for its calls.
            clock.time += seconds / max(calls, 8)
            gate.note(seconds, refused=number < refused)
        limits.append(gate.limit)
    return limits


def test_it_doubles_up_to_what_is_allowed() -> None:
    clock = Clock()
    assert play(Gate(100, now=clock), clock, 1000, 6, refuses=False) == [16, 32, 64, 100, 100, 100]


def test_it_settles_at_what_a_server_takes() -> None:
    clock = Clock()
    limits = play(Gate(64, now=clock), clock, 20, 60, refuses=True)
    assert max(limits) == 32
    assert all(18 <= limit <= 25 for limit in limits[20:])


def test_slots_that_only_wait_in_line_are_given_back() -> None:
    clock = Clock()
    limits = play(Gate(256, now=clock), clock, 8, 80, refuses=False)
    # Answers take at most four times as long as they could: 8 slots, so 32 calls; now and then a
    # quarter more on trial.
    assert set(limits[2:]) == {32, 41}
    assert limits.count(41) <= 4


def test_slots_that_do_help_come_back() -> None:
    """A server that computes many calls together is slower for each, and faster for all."""
    clock = Clock()
    gate = Gate(64, now=clock)
    limits = []
    for _ in range(60):
        calls = gate.limit
        seconds = 1.0 if calls <= 16 else 8.0 * calls / 64  # slower, and yet the rate rises
        rate = calls / 4
        for _ in range(max(calls, 8)):
            clock.time += 1 / rate
            gate.note(seconds, refused=False)
        limits.append(gate.limit)
    assert sum(limit >= 60 for limit in limits[15:]) >= 42


def test_a_few_refusals_are_noise() -> None:
    clock = Clock()
    gate = Gate(100, now=clock)
    play(gate, clock, 1000, 5, refuses=False)
    for number in range(1000):
        clock.time += 0.01
        gate.note(1.0, refused=number % 25 == 0)
    assert gate.limit == 100


def test_no_more_are_let_in_than_the_limit_and_none_is_forgotten() -> None:
    gate, most, done = Gate(5), 0, 0

    async def call() -> None:
        nonlocal most, done
        async with gate.slot():
            most = max(most, gate.active)
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
    assert gate.active == 0


@pytest.mark.parametrize("rpm", [6, 60, 600])
def test_a_minute_holds_so_many_requests(rpm: int) -> None:
    clock = Clock()
    pace = Pace(rpm, None, now=clock)
    due = [clock.time + pace.wait(100) for _ in range(3 * rpm)]
    for start in due:
        assert sum(start <= other < start + 60 for other in due) <= rpm + rpm / 60
    assert due[-1] - due[0] == pytest.approx(3 * 60, rel=0.1 if rpm > 6 else 0.2)


def test_a_minute_holds_so_many_tokens_and_wrong_guesses_are_made_up_for() -> None:
    clock = Clock()
    pace = Pace(None, 6000, now=clock)
    used = []
    for _ in range(60):
        clock.time += pace.wait(50)
        pace.correct(50, 200)  # each took four times the guess
        used.append((clock.time, 200))
    assert used[-1][0] - used[0][0] == pytest.approx(60 * 200 / 100, rel=0.05)


def test_a_pause_earns_a_second_and_not_more() -> None:
    clock = Clock()
    pace = Pace(600, None, now=clock)
    pace.wait(1)
    clock.time += 1000
    at_once = sum(pace.wait(1) == 0 for _ in range(100))
    assert at_once == 10


def test_without_limits_nobody_waits() -> None:
    pace = Pace(None, None)
    assert [pace.wait(1e9) <= 0 for _ in range(5)] == [True] * 5
