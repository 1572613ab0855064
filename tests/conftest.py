"""What every test folder shares."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_client import use_hub
from tests.support.hub_server import HubServer

pytest_plugins = [
    "tests.support.demo_fixtures",
    "tests.support.eval_fixtures",
    "tests.support.smollm",
    "tests.support.training_fixtures",
    "tests.support.vlm_server",
]

# A shell that starts the tests in the background has them ignore Ctrl-C, and all processes that
# they start with them; what these do on Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, then trainings: no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    trains = Path(__file__).parent / "training"
    items.sort(key=lambda item: (item.path not in slow, not item.path.is_relative_to(trains)))


def pytest_collection_finish() -> None:
    """Leave what is imported out of later garbage collections.

    Each full one takes a third of a second over half a million objects, and each training asks
    for one: a third of the processor time of a tiny training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real clips, annotations and miniature release beside the project; skips without them."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder.parent.name}/{folder.name} beside the project")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests out of the user's cache folder; one folder for the whole session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose names were brought to the disk so far, in order."""
    folders: list[Path] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.is_dir():
            folders.append(path)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return folders


@dataclass
class ChatServer:
    """A chat server on loopback with real sockets; `answer` decides what each request gets.

    `answer(body)` returns the reply's text, or (status, headers, body text), or None to cut the
    connection. `models` is what it lists (None: 404). `requests` keeps each body that came.
    It takes no videos, and says so, as OpenAI's does; with `takes_video` they come to `answer` too.
    """

    url: str = ""
    answer: Callable[[dict[str, Any]], str | tuple[int, dict[str, str], str] | None] = (
        lambda _body: "ok"
    )
    models: list[str] | None = None
    takes_video: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> None:
        if body is None:
            names = self.models
            listing = {
                "object": "list",
                "data": [{"id": n, "object": "model"} for n in names or ()],
            }
            _send(handler, 404 if names is None else 200, {}, json.dumps(listing))
            return
        if not self.takes_video and has_video(body):
            message = "Invalid value: 'video_url'. Supported values are: 'text', 'image_url'."
            _send(handler, 400, {}, json.dumps({"error": {"message": message}}))
            return
        with self._lock:
            self.requests.append(body)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            found = self.answer(body)
        finally:
            with self._lock:
                self._now -= 1
        if found is None:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif isinstance(found, tuple):
            _send(handler, *found)
        else:
            _send(handler, 200, {}, json.dumps(_completion(body["model"], found)))


def has_video(body: dict[str, Any]) -> bool:
    """Return whether a message holds a part with a video."""
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(part["type"] == "video_url" for part in parts)


def _completion(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": f"{model}-0613",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], text: str) -> None:
    content = text.encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """An OpenAI-compatible server on loopback; `chat_server.url` is its base URL."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.respond(self, None)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            state.respond(self, json.loads(self.rfile.read(length)))

        def log_message(self, *_: object) -> None:
            """Keeps the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    # A path of its own: ports come again, and the cache of answers goes by the address.
    state.url = f"http://127.0.0.1:{server.server_address[1]}/{uuid.uuid4().hex}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub_server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """A Hub on loopback, which the clients in this process take for the Hub; see `HubServer`."""
    with HubServer(tmp_path_factory.mktemp("hf_home")) as server:
        use_hub(server, monkeypatch)
        yield server
    assert not server.errors, server.errors[0]
