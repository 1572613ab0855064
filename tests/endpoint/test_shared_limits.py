"""Limits that several processes share: money is hard, and a worker that dies holds nothing."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.endpoint import BudgetError, ChatClient, EndpointOptions, in_parallel
from sharegptvideo.endpoint.budget import Budget
from sharegptvideo.endpoint.limits import (
    Clock,
    LimitRules,
    LocalLimits,
    Need,
    Outcome,
    RemoteLimits,
    SharedLimits,
)
from sharegptvideo.errors import UserError
from tests.support.limits_socket import serving

ROOT = Path(__file__).parents[2]
NEED = Need(prompt=10, answer=5, most=30.0)
TOOK = Outcome(tokens=12, answer=2, dollars=12.0, seconds=0.1, overloaded=False)
# A dollar a token: a call costs $10, and could cost 5 bytes + 8 + 20 tokens = $33.
DOLLARS = "date: 2026-01-02\nhosts: {127.0.0.1: {m: {prompt: 1000000, completion: 1000000}}}\n"


class Time:
    """Time that goes on where somebody sleeps, or the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.clock = Clock(lambda: self.seconds, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def worker_of(shared: SharedLimits, name: str = "m") -> RemoteLimits:
    """A worker whose calls are as to another process: pickled, and not cancelled with it."""

    async def call(method: str, *arguments: Any) -> Any:
        there = asyncio.ensure_future(getattr(shared, method)(*_copied(arguments)))
        return _copied(await asyncio.shield(there))

    return RemoteLimits(call, name)


def test_a_silent_worker_gives_its_slots_back_and_its_money_is_spent() -> None:
    time = Time()
    shared = SharedLimits(LimitRules(concurrency=2, max_cost=150.0), clock=time.clock, silence=60)

    async def main() -> None:
        gone, other = worker_of(shared), worker_of(shared)
        lost = [await gone.begin(NEED), await gone.begin(NEED)]
        waiting = asyncio.ensure_future(other.begin(NEED))
        forlorn = asyncio.ensure_future(gone.begin(NEED))
        await settle()
        assert not waiting.done()
        time.seconds += 59
        await shared.alive(other.worker)
        await settle()
        assert not waiting.done()
        time.seconds += 2
        await shared.alive(other.worker)
        lease = await waiting
        assert await shared.figures() == {"spent": 60.0, "requests": 0, "tokens": 0}
        # It was only slow, and gets its turn.
        gone.end(await forlorn, TOOK)
        other.end(lease, TOOK)
        await gone.close()
        await other.close()
        # Nobody may go on as if the two calls had cost nothing.
        with pytest.raises(BudgetError, match=r"\$84.00 spent"):
            await worker_of(shared, "another model").begin(Need(10, 5, 66.1))
        # One was answered after all, the other never sent.
        gone.end(lost[0], TOOK)
        gone.withdraw(lost[1])
        await gone.close()
        assert await shared.figures() == {"spent": 36.0, "requests": 3, "tokens": 36}

    run(main())


def test_a_worker_that_is_reported_gone_is_dropped_at_once() -> None:
    shared = SharedLimits(LimitRules(concurrency=1))

    async def main() -> None:
        gone, other = worker_of(shared), worker_of(shared)
        await gone.begin(NEED)
        waiting = asyncio.ensure_future(other.begin(NEED))
        await settle()
        assert await shared.drop(gone.worker) == 1
        await waiting
        assert (await shared.figures())["spent"] == 30
        assert await shared.drop(gone.worker) == 0
        await gone.close()

    run(main())


def test_life_is_shown_while_leases_are_held() -> None:
    time = Time()
    calls: list[str] = []

    async def call(method: str, *_: Any) -> None:
        calls.append(method)

    async def main() -> None:
        limits = RemoteLimits(call, "m", silence=0.02)
        lease = await limits.begin(NEED)
        while calls.count("alive") < 3:
            await asyncio.sleep(0.005)
        limits.end(lease, TOOK)
        await limits.close()
        before = calls.count("alive")
        await asyncio.sleep(0.05)
        assert calls.count("alive") == before

    run(main())
    assert time.seconds == 100


@pytest.mark.parametrize("granted", [False, True])
def test_a_wish_that_is_cancelled_holds_no_slot(granted: bool) -> None:
    shared = SharedLimits(LimitRules(concurrency=1))

    async def main() -> None:
        worker = worker_of(shared)
        first = await worker.begin(NEED)
        wish = asyncio.ensure_future(worker.begin(NEED))
        await settle()
        if granted:  # on the way to it when it goes
            worker.end(first, TOOK)
            for _ in range(3):
                await asyncio.sleep(0)
        wish.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wish
        if not granted:
            worker.end(first, TOOK)
        worker.end(await worker.begin(NEED), TOOK)
        await worker.close()
        assert await shared.figures() == {"spent": 24.0, "requests": 2, "tokens": 24}

    run(main())


def test_retry_after_holds_back_all_workers() -> None:
    time = Time()
    shared = SharedLimits(LimitRules(), clock=time.clock)

    async def main() -> None:
        one, other = worker_of(shared), worker_of(shared)
        one.hold_back(12.0)
        await one.close()
        other.end(await other.begin(NEED), TOOK)
        assert time.seconds == 112
        third = worker_of(shared, "another model")
        one.hold_back(12.0)
        await third.begin(NEED)
        assert time.seconds == 112
        await other.close()

    run(main())


def test_a_connection_that_breaks_ends_the_next_call() -> None:
    async def call(method: str, *_: Any) -> Any:
        if method == "end":
            raise UserError("the cluster is gone; run the same command again to go on")

    async def main() -> None:
        limits = RemoteLimits(call, "m")
        limits.end(await limits.begin(NEED), TOOK)
        await limits.close()
        with pytest.raises(UserError, match="the cluster is gone"):
            await limits.begin(NEED)

    run(main())


def test_a_lease_of_the_same_process_is_never_dropped() -> None:
    time = Time()
    budget = Budget()
    limits = LocalLimits(LimitRules(concurrency=1), budget, clock=time.clock, silence=1)

    async def main() -> None:
        lease = await limits.begin(NEED)
        time.seconds += 1000
        limits.alive("another")
        limits.end(lease, TOOK)
        await limits.begin(NEED)
        assert (budget.spent, budget.requests, budget.tokens) == (12, 1, 12)

    run(main())


def test_shared_and_local_limits_give_the_same(chat_server: Any, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(DOLLARS)
    chosen: dict[str, Any] = {
        "cache": False, "max_cost": 200, "concurrency": 16, "prices": tmp_path / "prices.yaml"
    }  # fmt: skip

    def answered(options: EndpointOptions) -> int:
        client = ChatClient("m", base_url=chat_server.url, options=options, first_wait=0.0)

        done: list[int] = []

        async def ask(n: int) -> None:
            await client.complete([{"role": "user", "content": f"q{n:04}"}], max_tokens=20)
            done.append(n)

        calls = in_parallel(ask, range(1000), width=32, finish=client.close)
        with pytest.raises(BudgetError, match=r"before --max-cost \$200.00: \$170.00 spent"):
            list(calls)
        return len(done)

    local = EndpointOptions(**chosen)
    assert answered(local) == 17
    shared = SharedLimits(local.rules)
    with serving(shared, tmp_path / "socket") as call:
        remote = EndpointOptions(**chosen, limits=functools.partial(RemoteLimits, call))
        assert answered(remote) == 17
    assert local.budget.spent == 170
    assert asyncio.run(shared.figures()) == {"spent": 170.0, "requests": 17, "tokens": 170}
    assert len(chat_server.requests) == 34


def test_batches_are_for_one_process() -> None:
    with pytest.raises(UserError, match="leave --batch-api out"):
        EndpointOptions(batch_api=True, limits=lambda _: LocalLimits(LimitRules(), Budget()))


_WORKER = """
import functools, sys
from pathlib import Path
from sharegptvideo.endpoint import BudgetError, ChatClient, EndpointOptions, in_parallel
from sharegptvideo.endpoint.limits import RemoteLimits
from tests.support.limits_socket import LimitsSocket
url, socket, prices, letter = sys.argv[1:]
limits = functools.partial(RemoteLimits, LimitsSocket(Path(socket)), silence=1.0)
options = EndpointOptions(cache=False, concurrency=4, prices=Path(prices), limits=limits)
client = ChatClient("m", base_url=url, options=options)
async def ask(n):
    await client.complete([{"role": "user", "content": f"{letter}{n:04}"}], max_tokens=20)
try:
    for _ in in_parallel(ask, range(1000), width=8, finish=client.close):
        pass
except BudgetError as error:
    print(error)
"""


def test_money_is_a_hard_limit_where_a_worker_is_killed(chat_server: Any, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(DOLLARS)
    held, killed, of_a = threading.Event(), threading.Event(), 0

    def answer(body: dict[str, Any]) -> str:
        nonlocal of_a
        if body["messages"][0]["content"][0] == "a":
            of_a += 1
            if of_a > 3:
                held.set()
                killed.wait(60)
        return "ok"

    chat_server.answer = answer
    command = [sys.executable, "-c", _WORKER, chat_server.url, str(tmp_path / "socket")]
    command.append(str(tmp_path / "prices.yaml"))

    def start(letter: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*command, letter], stdout=subprocess.PIPE, text=True, cwd=ROOT)

    shared = SharedLimits(LimitRules(concurrency=4, max_cost=400.0), silence=1.0)
    with serving(shared, tmp_path / "socket"), start("a") as first:
        assert held.wait(60)
        with start("b") as second:
            os.kill(first.pid, signal.SIGKILL)
            killed.set()
            output, _ = second.communicate(timeout=60)
        spent = asyncio.run(shared.figures())
    assert output.startswith("stopped before --max-cost $400.00")
    # All that reached the server is billed, whether the worker lived to hear of it or not.
    assert 10 * len(chat_server.requests) <= spent["spent"] <= 400
    assert 400 - spent["spent"] < 33
    written_off = spent["spent"] - 10 * spent["requests"]
    assert written_off % 33 == 0
    assert 33 <= written_off <= 4 * 33
    assert len(chat_server.requests) - spent["requests"] <= written_off // 33
