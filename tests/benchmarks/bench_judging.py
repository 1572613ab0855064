"""10,000 requests at a local server with 200 ms latency and 64 slots, without and with faults.

    python tests/benchmarks/bench_judging.py [--requests N] [--repeats R] [--slots S]
        [--concurrency C] [--skip-faults]

The server is a process of its own: each request keeps one of its 64 slots for 200 ms, what comes
beyond them waits. The ideal rate is 64 / 0.2 s = 320 a second. `ours` is `ChatClient` as judges use
it, cache and limits included; `openai` is the bare AsyncOpenAI client behind a semaphore. Both may
have 80 calls under way, so that no slot waits while the client reads one answer and sends the next
request; `ours` finds out by itself how many help.

With faults, one request in five meets one: 429 (half with Retry-After), 500, a connection cut,
garbage, or a stall of 30 s; the server keeps to its slots meanwhile. Prints, besides the rate, what
was lost or answered twice (each answer names its request), and how the memory of the process grew
between a quarter of the work and its end. Prints one JSON object; exits with 1 where the rate
without faults is below 95 % of the ideal one, where anything was lost or doubled, or where memory
grew by more than 16 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.endpoint import CallFailedError, ChatClient, EndpointOptions, in_parallel
from tests.support.json_requests import JsonRequests

LATENCY_S, STALL_S = 0.2, 30.0
FAULTS = ("429", "500", "cut", "garbage", "stall")
SHARE = 0.2
LEAST_SHARE_OF_IDEAL = 0.95
MOST_GROWTH_MIB = 16.0
PROMPT = "Compare the answer with the reference. " * 60  # 2.3 kB, as a caption-grounded prompt


class _Server(JsonRequests):
    """A judge with a fixed latency, so many slots, and faults at random."""

    slots: asyncio.Semaphore
    faulty = False
    draw = random.Random(0)
    answered: ClassVar[Counter[str]] = Counter()
    met: ClassVar[Counter[str]] = Counter()

    async def serve(self, _path: str, body: dict[str, Any]) -> None:
        name = body["messages"][-1]["content"].rpartition("#")[2]
        fault = ""
        if _Server.faulty and _Server.draw.random() < SHARE:
            fault = _Server.draw.choice(FAULTS)
            _Server.met[fault] += 1
        async with _Server.slots:
            await asyncio.sleep(STALL_S if fault == "stall" else LATENCY_S)
            if self.transport.is_closing():
                return
            if fault == "cut":
                self.transport.abort()
            elif fault == "429":
                later = b"Retry-After: 0.3\r\n" if _Server.draw.random() < 0.5 else b""
                self.send(b"429 Too Many Requests", b"{}", later)
            elif fault == "500":
                self.send(b"500 Oops", b"{}")
            elif fault == "garbage":
                self.send(b"200 OK", b"<html>a page of the gateway</html>")
            else:
                _Server.answered[name] += 1
                self.send(b"200 OK", _completion(name))


def _completion(name: str) -> bytes:
    message = {"role": "assistant", "content": json.dumps({"explanation": name, "score": 4})}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "judge-1",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 600, "completion_tokens": 12, "total_tokens": 612},
        }
    ).encode()


def _serve(pipe: Connection, slots: int) -> None:
    """The server's process: sends its port, serves, and sends what it answered when asked."""

    async def main() -> None:
        _Server.slots = asyncio.Semaphore(slots)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Server, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while (order := await loop.run_in_executor(None, pipe.recv)) != "end":
            if order == "report":
                pipe.send((dict(_Server.answered), dict(_Server.met)))
            _Server.faulty = order == "faults"
            _Server.answered, _Server.met = Counter(), Counter()

    asyncio.run(main())


@contextlib.contextmanager
def server(slots: int) -> Iterator[tuple[str, Connection]]:
    """(base URL, pipe to it) of a server that runs meanwhile."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, slots), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1", ours
    finally:
        ours.send("end")
        process.join()


def _messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{PROMPT}#{number}"}]


def rss_mib() -> float:
    """What this process holds in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ours(url: str, requests: int, concurrency: int, cache: Path) -> dict[str, Any]:
    """All requests by `ChatClient`; what came of each, and the memory on the way."""
    options = EndpointOptions(concurrency=concurrency, cache=cache)
    # More attempts than usual: at one fault in five, six in a row are met once in 15,000 requests.
    client = ChatClient("judge", base_url=url, options=options, first_wait=0.2, attempts=10)
    seen: Counter[str] = Counter()
    failed = 0
    memory: list[float] = []

    async def call(number: int) -> str | None:
        try:
            reply = await client.complete(_messages(number), max_tokens=2048)
        except CallFailedError:
            return None
        return str(json.loads(reply.text)["explanation"])

    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    for number, name in in_parallel(call, range(requests), width=client.width, finish=client.close):
        if name is None:
            failed += 1
        else:
            assert name == str(number), "an answer to another request"
            seen[name] += 1
        if (sum(seen.values()) + failed) % max(1, requests // 20) == 0:
            memory.append(rss_mib())
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "cpu_ms_per_request": 1000 * (time.process_time() - cpu) / requests,
        "lost": requests - len(seen),
        "twice": sum(count - 1 for count in seen.values()),
        "memory_mib": memory,
    }


def bare(url: str, requests: int, concurrency: int) -> float:
    """Seconds that the bare client takes."""
    from openai import AsyncOpenAI

    async def main() -> float:
        client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
        free = asyncio.Semaphore(concurrency)

        async def call(number: int) -> None:
            async with free:
                await client.chat.completions.create(
                    model="judge",
                    messages=_messages(number),  # type: ignore[arg-type]  # plain dicts do
                    temperature=0,
                    max_tokens=2048,
                )

        start = time.perf_counter()
        await asyncio.gather(*map(call, range(requests)))
        seconds = time.perf_counter() - start
        await client.close()
        return seconds

    return asyncio.run(main())


def measure(
    requests: int, repeats: int, slots: int, concurrency: int, *, faults: bool
) -> dict[str, Any]:
    """All figures, and under `holds` whether they are as good as they have to be."""
    ideal = slots / LATENCY_S
    with server(slots) as (url, pipe), tempfile.TemporaryDirectory() as folder:
        bare(
            url, min(requests, 200), concurrency
        )  # imports and first connections are not what is measured
        clean: list[dict[str, Any]] = []
        bares: list[float] = []
        for number in range(repeats):
            clean.append(ours(url, requests, concurrency, Path(folder) / f"{number}.sqlite"))
            bares.append(bare(url, requests, concurrency))
        rate = requests / statistics.median(one["seconds"] for one in clean)
        figures: dict[str, Any] = {
            "requests": requests,
            "slots": slots,
            "concurrency": concurrency,
            "load_average": round(os.getloadavg()[0], 1),
            "ideal_per_s": ideal,
            "ours_per_s": round(rate, 1),
            "openai_per_s": round(requests / statistics.median(bares), 1),
            "share_of_ideal": round(rate / ideal, 4),
            "shares": [round(requests / one["seconds"] / ideal, 4) for one in clean],
            "cpu_ms_per_request": round(clean[0]["cpu_ms_per_request"], 2),
            "lost": sum(one["lost"] for one in clean),
            "twice": sum(one["twice"] for one in clean),
            "memory_growth_mib": _growth(clean[-1]["memory_mib"]),
        }
        again = ours(url, requests, concurrency, Path(folder) / "0.sqlite")
        figures["from_cache_per_s"] = round(requests / again["seconds"])
        holds = rate >= LEAST_SHARE_OF_IDEAL * ideal and not figures["lost"] + figures["twice"]
        if faults:
            figures["faults"] = _faulty(
                url, pipe, requests, concurrency, Path(folder) / "faults.sqlite"
            )
            found = figures["faults"]
            holds = holds and not found["lost"] + found["twice"] + found["answered_again"]
            holds = holds and found["memory_growth_mib"] <= MOST_GROWTH_MIB
    return figures | {"holds": holds}


def _faulty(
    url: str, pipe: Connection, requests: int, concurrency: int, cache: Path
) -> dict[str, Any]:
    pipe.send("faults")
    found = ours(url, requests, concurrency, cache)
    pipe.send("report")
    answered, met = pipe.recv()
    return {
        "seconds": round(found["seconds"], 1),
        "met": met,
        "lost": found["lost"],
        "twice": found["twice"],
        "answered_again": sum(count - 1 for count in answered.values()),
        "memory_mib": [round(one, 1) for one in found["memory_mib"]],
        "memory_growth_mib": _growth(found["memory_mib"]),
    }


def _growth(memory: list[float]) -> float:
    """From a quarter of the work to its end."""
    return round(memory[-1] - memory[len(memory) // 4], 1)


def main() -> int:
    """Measure, print, and say by the exit code whether the limits hold."""
    parser = argparse.ArgumentParser(description="Rate and safety of the endpoint client.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=80)
    parser.add_argument("--skip-faults", action="store_true")
    chosen = parser.parse_args()
    figures = measure(
        chosen.requests,
        chosen.repeats,
        chosen.slots,
        chosen.concurrency,
        faults=not chosen.skip_faults,
    )
    print(json.dumps(figures, indent=2))
    return 0 if figures["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
