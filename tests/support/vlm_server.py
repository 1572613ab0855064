"""A fake video model on loopback, as an OpenAI-compatible server, with faults by a seed.

What it answers follows from the request alone: a caption from the pictures in it, JSON from the
schema that the request gives and the caption in its text, else a sentence from pictures, question
and seed. So an answer that belongs to another clip shows. Captions and answers about a clip hold
its number (`code_of` its pictures' URLs).

It counts by the request's hash what was asked and what was paid: a whole answer, also one of
babble. A server that is asked again after a fault of its own has not been paid for that.

    python -m tests.support.vlm_server '{"latency_s": 0.2, "faults": {"429": 0.1}}'

prints its base URL, serves and ends when stdin closes. GET URL/report is what `VlmServer.report`
returns; POST URL/settings changes settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import sys
import threading
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from tests.support.json_requests import JsonRequests
from tests.support.server_process import serve_until_orphaned, server_process
from tests.support.vlm_scenes import Scene, code_of, fill, scene_in

__all__ = [
    "FAULTS",
    "VlmReport",
    "VlmServer",
    "VlmSettings",
    "answer_to",
    "running_vlm_server",
    "serve_in_thread",
]

TRANSPORT = ("429", "500", "503", "broken", "cut", "page", "slow")
"""Faults that come and go: those of one attempt."""
CONTENT = ("babble", "invalid_json", "refusal")
"""Faults of what is said: a request that has one has it each time."""
FAULTS = (*TRANSPORT, *CONTENT)

_BABBLE = "the of and so the the it is is of of a a the so " * 6
_REFUSAL = "I'm sorry, but I can't help with that."
_STATUS = {"429": b"429 Too Many Requests", "500": b"500 Oops", "503": b"503 Unavailable"}


@dataclass(frozen=True)
class VlmSettings:
    """How the server behaves.

    `faults` gives the share of attempts (`TRANSPORT`) or of requests (`CONTENT`) that meet each;
    `slots` bounds what is computed at once, None: not at all. A slow answer takes `slow_s`.
    """

    model: str = "vlm"
    seed: int = 0
    latency_s: float = 0.0
    slots: int | None = None
    faults: dict[str, float] = field(default_factory=dict)
    retry_after_s: float = 0.2
    slow_s: float = 2.0

    def __post_init__(self) -> None:
        unknown = self.faults.keys() - set(FAULTS)
        if unknown or not 0 <= sum(self.faults.values()) <= 1:
            raise ValueError(f"faults {self.faults}")


@dataclass(frozen=True)
class VlmReport:
    """What the server saw: attempts and whole answers by request, faults by name."""

    asked: Counter[str]
    paid: Counter[str]
    met: Counter[str]
    most_at_once: int
    at_once: int

    @property
    def repeats(self) -> int:
        """Answers beyond the first of each request."""
        return self.paid.total() - len(self.paid)


@dataclass
class VlmServer:
    """A running server; `url` is its base URL."""

    url: str
    settings: VlmSettings

    def report(self) -> VlmReport:
        """Return what it saw so far."""
        with urllib.request.urlopen(f"{self.url}/report") as reply:
            counted = json.load(reply)
        counters = {name: Counter(counted[name]) for name in ("asked", "paid", "met")}
        return VlmReport(**counted | counters)

    def change(self, **settings: Any) -> None:
        """Change settings from the next request on, such as `faults={}`; the counts stay."""
        self.settings = replace(self.settings, **settings)
        content = json.dumps(asdict(self.settings)).encode()
        urllib.request.urlopen(f"{self.url}/settings", content).close()


@contextlib.contextmanager
def running_vlm_server(settings: VlmSettings | None = None) -> Iterator[VlmServer]:
    """Run a server as a process of its own."""
    settings = settings or VlmSettings()
    with server_process("tests.support.vlm_server", json.dumps(asdict(settings))) as url:
        yield VlmServer(url, settings)


@pytest.fixture
def vlm_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[VlmServer]:
    """A fake video model without faults; `change` gives it some."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with running_vlm_server() as server:
        yield server


def answer_to(body: dict[str, Any]) -> str:
    """Return what a request is answered without a fault."""
    pictures, text = _parts(body)
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    scene = Scene(code_of(pictures)) if pictures else scene_in(text)
    if schema is not None:
        return json.dumps(fill(schema, scene, text))
    lower = text.lower()
    if pictures and ("caption" in lower or "describe" in lower):
        return scene.caption()
    return scene.answer(text, body.get("seed"))


def _parts(body: dict[str, Any]) -> tuple[list[str], str]:
    """Return a request's pictures, or whole videos, by their URLs, and all its text."""
    pictures: list[str] = []
    texts: list[str] = []
    for message in body["messages"]:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                pictures.append(part[part["type"]]["url"])
    return pictures, "\n".join(texts)


class _State:
    """Counts and settings, shared by all connections."""

    def __init__(self, settings: VlmSettings) -> None:
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.change(settings)

    def change(self, settings: VlmSettings) -> None:
        self.settings = settings
        self.slots = asyncio.Semaphore(settings.slots) if settings.slots else None

    def report(self) -> dict[str, Any]:
        names = ("asked", "paid", "met", "most_at_once", "at_once")
        return {name: getattr(self, name) for name in names}

    def fault(self, key: str) -> str | None:
        """Draw the fault of an attempt; depends on seed, request and number of the attempt."""
        seed = self.settings.seed
        said = random.Random(f"{seed} {key}").random()
        attempt = random.Random(f"{seed} {key} {self.asked[key]}").random()
        for kinds, drawn in ((TRANSPORT, attempt), (CONTENT, said)):
            for kind in kinds:
                drawn -= self.settings.faults.get(kind, 0.0)
                if drawn < 0:
                    self.met[kind] += 1
                    return kind
        return None


class _Connection(JsonRequests):
    state: _State

    async def serve(self, path: str, body: Any) -> None:
        state = self.state
        if path.endswith("/report"):
            self.send(b"200 OK", json.dumps(state.report()).encode())
        elif path.endswith("/settings"):
            state.change(VlmSettings(**body))
            self.send(b"200 OK", b"{}")
        elif path.endswith("/health"):
            self.send(b"200 OK", b"")
        elif path.endswith("/models"):
            models = [{"id": state.settings.model, "object": "model"}]
            self.send(b"200 OK", json.dumps({"object": "list", "data": models}).encode())
        else:
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                async with state.slots or contextlib.nullcontext():
                    await self._complete(body)
            finally:
                state.at_once -= 1

    async def _complete(self, body: dict[str, Any]) -> None:
        state, settings = self.state, self.state.settings
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        fault = state.fault(key)
        state.asked[key] += 1
        await asyncio.sleep(settings.slow_s if fault == "slow" else settings.latency_s)
        if fault == "broken":
            self.transport.abort()
            return
        if fault in _STATUS:
            later = b"Retry-After: %g\r\n" % settings.retry_after_s if fault == "429" else b""
            self.send(_STATUS[fault], b'{"error": {"message": "a fault"}}', later)
            return
        if fault == "page":
            self.send(b"200 OK", b"<html>a page of the gateway</html>")
            return
        reply = _completion(body, _said(body, fault))
        if fault == "cut":
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                % (len(reply), reply[: len(reply) // 2])
            )
            self.transport.close()
            return
        # Paid for, whether or not the caller is still there.
        state.paid[key] += 1
        self.send(b"200 OK", reply)


def _said(body: dict[str, Any], fault: str | None) -> str:
    if fault == "babble":
        return _BABBLE
    if fault == "refusal":
        return _REFUSAL
    text = answer_to(body)
    if fault == "invalid_json" and body.get("response_format"):
        return text[: len(text) // 2]
    return text


def _completion(body: dict[str, Any], text: str) -> bytes:
    pictures, asked = _parts(body)
    prompt, answer = 85 * len(pictures) + len(asked.split()), len(text.split())
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": f"{body['model']}-fake",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": usage,
        }
    ).encode()


def serve_in_thread(settings: VlmSettings, port: int = 0) -> tuple[int, Callable[[], Any]]:
    """Serve in a thread; return the port, and what returns the contents of its report."""
    begun: list[int] = []
    ready = threading.Event()
    _Connection.state = _State(settings)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Connection, "127.0.0.1", port, backlog=1024)
        begun.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return begun[0], _Connection.state.report


def _main() -> None:
    settings = VlmSettings(**json.loads(sys.argv[1])) if sys.argv[1:] else VlmSettings()
    port, _ = serve_in_thread(settings)
    # A path of its own: ports come again, and caches of answers go by the address.
    serve_until_orphaned(f"http://127.0.0.1:{port}/{uuid.uuid4().hex}/v1")


if __name__ == "__main__":
    _main()
