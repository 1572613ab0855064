"""Questions about clips to a served model, in three orders, at a server that charges by the token.

    python tests/benchmarks/bench_served.py [--clips N] [--questions N] [--frames N] [--seconds S]
        [--cache-tokens N] [--step-tokens N] [--repeats R] [--candidates K] [--candidates-clips N]
        [--candidates-questions N]

The server is a process of its own and pretends a GPU: it takes what waits into a step, in the order
of coming and up to `--step-tokens` tokens that are not cached, sleeps in proportion to these, and
runs one step at a time. Its prefix cache has blocks of 16 tokens, drops those not used for longest
beyond `--cache-tokens`, and holds finished steps only: calls in one step share nothing. (A server
that shares blocks within a step has less to gain.) It reports the tokens it found there. A frame
is 64 tokens, a word one, a token 0.1 ms; answers take 50 ms more, all at once. A cache that holds a
third of the clips stands for evaluations of many more clips than a GPU's memory has room for.

`ahead` is `ServedModel` as `eval run` uses it: a clip's first question goes ahead. `at once` sends
the questions clip by clip, 32 under way, and does not wait. `lmms-eval` sends them as the openai
model of lmms-eval 0.7.3 does: in the order of the SHA-1 of the prompts' first 256 characters, 32
under way. Both by the bare AsyncOpenAI client. All three send the same bytes.

Then sampled answers to questions of other clips, which take 0.5 s in the middle and up to 8 s
(log-normal, by prompt and seed): `stream` as `build candidates` asks for them, one after the other
as there is room, `steps` the same calls in steps that are waited for, each four times as many calls
as the client has ready. `least` is their seconds by `UNDER_WAY`, with no slot ever empty.

Prints one JSON object: per way seconds, tokens computed and the share from the cache, and ratios
(medians): of seconds, and of tokens, which do not depend on how busy this machine is. Exits with 1
where `ahead` computes more than one prefill a clip: every clip once, and of the other questions
what follows the last whole block of the clip; or where the server counted something else than the
client read.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import multiprocessing
import random
import statistics
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.endpoint.messages import frame_urls, with_pictures
from sharegptvideo.models import Request, SamplingParams
from sharegptvideo.models.served import ServedModel
from tests.support.json_requests import JsonRequests

BLOCK, FRAME_TOKENS, TEMPLATE = 16, 64, 24
ANSWER_S, UNDER_WAY = 0.05, 32
WAYS = ("ahead", "at once", "lmms-eval")
SAMPLED_S, SPREAD, LONGEST_S = 0.5, 1.0, 8.0


def tokens_of(body: dict[str, Any]) -> list[bytes]:
    """Return the prompt's tokens: those of the chat's template, of pictures, of words."""
    tokens = [f"template {n}".encode() for n in range(TEMPLATE)]
    for part in body["messages"][0]["content"]:
        if part["type"] == "text":
            tokens += part["text"].encode().split()
        else:
            picture = hashlib.sha1(part["image_url"]["url"].encode()).digest()
            tokens += [picture + bytes([n]) for n in range(FRAME_TOKENS)]
    return tokens


def blocks_of(tokens: Sequence[bytes]) -> list[bytes]:
    """Return a hash for each whole block, of it and all before it."""
    blocks, before = [], b""
    for at in range(0, len(tokens) - BLOCK + 1, BLOCK):
        before = hashlib.sha1(before + b"\0".join(tokens[at : at + BLOCK])).digest()
        blocks.append(before)
    return blocks


class Gpu:
    """The server's state: what waits, the cache, and the tokens that were computed."""

    def __init__(self, seconds: float, cache_tokens: int, step_tokens: int) -> None:
        self.seconds, self.room, self.step_tokens = seconds, cache_tokens // BLOCK, step_tokens
        self.waiting: deque[tuple[list[bytes], asyncio.Future[int]]] = deque()
        self.came = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        self.cache: OrderedDict[bytes, None] = OrderedDict()
        self.computed = self.cached = 0
        self.answering = 0.0

    def hit(self, tokens: Sequence[bytes], blocks: Sequence[bytes]) -> int:
        """Return the tokens at the prompt's beginning that are cached; the last one never is."""
        count = 0
        for block in blocks[: (len(tokens) - 1) // BLOCK]:
            if block not in self.cache:
                break
            self.cache.move_to_end(block)
            count += BLOCK
        return count

    async def work(self) -> None:
        while True:
            await self.came.wait()
            step, size = [], 0
            while self.waiting:
                tokens, done = self.waiting[0]
                blocks = blocks_of(tokens)
                cached = self.hit(tokens, blocks)
                if step and size + len(tokens) - cached > self.step_tokens:
                    break
                self.waiting.popleft()
                size += len(tokens) - cached
                step.append((blocks, cached, done))
            if not self.waiting:
                self.came.clear()
            await asyncio.sleep(size * self.seconds)
            self.computed += size
            for blocks, cached, done in step:
                self.cached += cached
                for block in blocks:
                    self.cache[block] = None
                    self.cache.move_to_end(block)
                while len(self.cache) > self.room:
                    self.cache.popitem(last=False)
                done.set_result(cached)


def seconds_of(body: dict[str, Any]) -> float:
    """Return how long a sampled answer takes: few are long."""
    text = f"{body['messages'][0]['content'][-1]['text']} {body['seed']}"
    draw = random.Random(text).lognormvariate(math.log(SAMPLED_S), SPREAD)
    return min(draw, LONGEST_S)


class Connected(JsonRequests):
    """A connection whose requests wait for the pretended GPU."""

    gpu: Gpu

    async def serve(self, _path: str, body: dict[str, Any]) -> None:
        tokens = tokens_of(body)
        done = asyncio.get_running_loop().create_future()
        self.gpu.waiting.append((tokens, done))
        self.gpu.came.set()
        cached = await done
        seconds = seconds_of(body) if "seed" in body else ANSWER_S
        self.gpu.answering += seconds
        await asyncio.sleep(seconds)
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": 1}
        usage["total_tokens"] += len(tokens)
        message = {"role": "assistant", "content": "yes"}
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": usage | {"prompt_tokens_details": {"cached_tokens": cached}},
        }
        self.send(b"200 OK", json.dumps(reply).encode())


def serve(pipe: Connection, seconds: float, cache_tokens: int, step_tokens: int) -> None:
    """Send the port; then, for every message that comes, the figures, and begin anew."""

    async def main() -> None:
        Connected.gpu = gpu = Gpu(seconds, cache_tokens, step_tokens)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Connected, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        worker = asyncio.ensure_future(gpu.work())
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send((gpu.computed, gpu.cached, gpu.answering))
            gpu.clear()
        worker.cancel()

    asyncio.run(main())


def ahead(url: str, requests: Sequence[Request]) -> list[tuple[int, int]]:
    """Ask as `eval run` does; return the prompt tokens and cached tokens of each answer."""
    options = EndpointOptions(concurrency=UNDER_WAY, cache=False)
    model = ServedModel("m", base_url=url, options=options, send="pictures")
    usages = []
    for answer in model.generate(requests, SamplingParams(max_new_tokens=4)):
        assert answer.error is None, answer.error
        assert answer.usage is not None
        usages.append((answer.usage["prompt_tokens"] or 0, answer.usage["cached_tokens"] or 0))
    return usages


def plainly(url: str, requests: Sequence[Request]) -> list[tuple[int, int]]:
    """Ask in the order given, with so many under way; return the same."""
    from openai import AsyncOpenAI

    async def main() -> list[tuple[int, int]]:
        slots = asyncio.Semaphore(UNDER_WAY)
        encoded: dict[int, list[str]] = {}

        async def ask(client: AsyncOpenAI, request: Request) -> tuple[int, int]:
            async with slots:
                assert request.frames is not None
                if id(request.frames) not in encoded:
                    encoded[id(request.frames)] = frame_urls(request.frames)
                content: Any = with_pictures(request.prompt, encoded[id(request.frames)])
                reply = await client.chat.completions.create(
                    model="m",
                    messages=[{"role": "user", "content": content}],
                    temperature=0,
                    max_tokens=4,
                )
            assert reply.usage is not None
            assert reply.usage.prompt_tokens_details is not None
            cached = reply.usage.prompt_tokens_details.cached_tokens or 0
            return reply.usage.prompt_tokens, cached

        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
            return await asyncio.gather(*(ask(client, request) for request in requests))

    return asyncio.run(main())


def sampled(url: str, requests: Sequence[Request], answers: int, *, steps: bool) -> float:
    """Ask for so many answers to each question; return the seconds."""
    options = EndpointOptions(concurrency=UNDER_WAY, cache=False)
    model = ServedModel("m", base_url=url, options=options, send="pictures")
    params = SamplingParams(temperature=1.0, max_new_tokens=4)
    batches = [[replace(each, number=n) for n in range(answers)] for each in requests]
    start = time.perf_counter()
    if steps:
        size = max(1, 4 * model.width // answers)
        parts = [batches[at : at + size] for at in range(0, len(batches), size)]
    else:
        parts = [batches]
    done = [answer for part in parts for answer in model.stream(part, params)]
    seconds = time.perf_counter() - start
    assert [answer.error for answer in done] == [None] * len(requests) * answers
    return seconds


def requests_of(clips: int, questions: int, frames: int) -> list[Request]:
    """Clips of noise, each with questions of its own, clip by clip."""
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8) for _ in range(clips)]
    return [
        Request(f"What does thing {number} of clip {clip} do before the end ?", shown)
        for clip, shown in enumerate(pictures)
        for number in range(questions)
    ]


def least(clips: int, questions: int, frames: int) -> int:
    """Return the tokens that have to be computed: each clip once, and what is not its blocks."""
    words = len(requests_of(1, 1, 1)[0].prompt.split())
    prompt = TEMPLATE + frames * FRAME_TOKENS + words
    shared = TEMPLATE + frames * FRAME_TOKENS + len(["What", "does", "thing"])
    return clips * (prompt + (questions - 1) * (prompt - shared // BLOCK * BLOCK))


def main() -> None:
    """Measure all ways in turn, so often, and compare medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1e-4, help="a token")
    parser.add_argument("--cache-tokens", type=int, default=9_000)
    parser.add_argument("--step-tokens", type=int, default=8_192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=6, help="answers a question; 0: none")
    parser.add_argument("--candidates-clips", type=int, default=36)
    parser.add_argument("--candidates-questions", type=int, default=3)
    given = parser.parse_args()
    requests = requests_of(given.clips, given.questions, given.frames)
    by_hash = sorted(
        requests, key=lambda each: hashlib.sha1(each.prompt[:256].encode()).hexdigest()
    )
    here, there = multiprocessing.Pipe()
    settings = (there, given.seconds, given.cache_tokens, given.step_tokens)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=settings, daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    computed: dict[str, list[int]] = {way: [] for way in WAYS}
    shares: dict[str, float] = {}
    wrong: list[str] = []
    for _ in range(given.repeats):
        for way in WAYS:
            start = time.perf_counter()
            if way == "ahead":
                usages = ahead(url, requests)
            else:
                usages = plainly(url, requests if way == "at once" else by_hash)
            seconds[way].append(time.perf_counter() - start)
            here.send(True)
            tokens, cached, _ = here.recv()
            computed[way].append(tokens)
            prompts = sum(prompt for prompt, _ in usages)
            shares[way] = cached / prompts
            if (len(usages), prompts - tokens) != (len(requests), sum(c for _, c in usages)):
                wrong.append(f"{way}: client and server counted differently")
    answering = 0.0
    drawn: dict[str, list[float]] = {"steps": [], "stream": []}
    some = requests_of(given.candidates_clips, given.candidates_questions, given.frames)
    for _ in range(given.repeats if given.candidates else 0):
        for way, times in drawn.items():
            times.append(sampled(url, some, given.candidates, steps=way == "steps"))
            here.send(True)
            _, _, answering = here.recv()
    here.send(False)
    mark = least(given.clips, given.questions, given.frames)
    if max(computed["ahead"]) > mark:
        wrong.append(f"ahead: {max(computed['ahead'])} tokens computed, one clip a clip is {mark}")
    tokens_of_way = {way: statistics.median(each) for way, each in computed.items()}
    wall = {way: statistics.median(each) for way, each in seconds.items()}
    print(
        json.dumps(
            {
                "clips": given.clips,
                "questions": len(requests),
                "clip_tokens": TEMPLATE + given.frames * FRAME_TOKENS,
                "cache_tokens": given.cache_tokens,
                "one_prefill_a_clip_tokens": mark,
                "computed_tokens": computed,
                "cached_share": {way: round(share, 3) for way, share in shares.items()},
                "seconds": {way: [round(each, 2) for each in seconds[way]] for way in WAYS},
                "tokens_of_at_once": round(tokens_of_way["at once"] / tokens_of_way["ahead"], 2),
                "tokens_of_lmms_eval": round(
                    tokens_of_way["lmms-eval"] / tokens_of_way["ahead"], 2
                ),
                "faster_than_at_once": round(wall["at once"] / wall["ahead"], 2),
                "faster_than_lmms_eval": round(wall["lmms-eval"] / wall["ahead"], 2),
                "candidates": given.candidates * len(some),
                "candidates_seconds": {
                    way: [round(each, 2) for each in times] for way, times in drawn.items()
                },
                "candidates_least": round(answering / UNDER_WAY, 2),
                "wrong": wrong,
            }
        )
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
