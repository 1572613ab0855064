"""The cache of answers: what is asked twice is paid for once, by several processes too."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.endpoint import ChatClient, EndpointOptions, Reply, in_parallel
from sharegptvideo.endpoint.cache import ReplyCache, request_key
from sharegptvideo.errors import UserError

REPLY = Reply("yes", "m-1", "fp", "stop", 12, 2)
BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hello"}],
    "temperature": 0.0,
    "max_tokens": 5,
}


def ask(client: ChatClient, text: str = "Hello", **options: Any) -> Reply:
    async def call(content: Any) -> Reply:
        return await client.complete([{"role": "user", "content": content}], **options)

    ((_, reply),) = in_parallel(call, [text], width=1, finish=client.close)
    return reply


def client_of(server: Any, file: Path, model: str = "m") -> ChatClient:
    return ChatClient(model, base_url=server.url, options=EndpointOptions(cache=file))


def test_the_same_question_is_asked_once(chat_server: Any, tmp_path: Path) -> None:
    first = ask(client_of(chat_server, tmp_path / "c"))
    other = client_of(chat_server, tmp_path / "c")
    second = ask(other)
    assert len(chat_server.requests) == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.text == first.text
    assert second.tokens == first.tokens == 10
    assert other.options.budget.cached == 1
    assert other.options.budget.requests == 0


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Hello!"},
        {"max_tokens": 7},
        {"response_format": {"type": "json_object"}},
        {"model": "m2"},
        {"text": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}]},
        {"text": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAB"}}]},
    ],
)
def test_any_change_is_asked_anew(chat_server: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    ask(client_of(chat_server, tmp_path / "c"))
    picture = [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,BBBB"}}]
    ask(client_of(chat_server, tmp_path / "c"), picture)  # type: ignore[arg-type]  # content is any
    model = change.pop("model", "m")
    assert not ask(client_of(chat_server, tmp_path / "c", model), **change).cached
    assert len(chat_server.requests) == 3


def test_another_endpoint_is_another_question() -> None:
    assert request_key("http://a/v1", BODY) != request_key("http://b/v1", BODY)
    assert request_key("http://a/v1", BODY) == request_key(
        "http://a/v1", dict(reversed(BODY.items()))
    )


def test_what_is_drawn_is_drawn_anew(chat_server: Any, tmp_path: Path) -> None:
    for _ in range(2):
        assert not ask(client_of(chat_server, tmp_path / "c"), temperature=1.0).cached
    assert len(chat_server.requests) == 2


def test_failures_are_not_kept(chat_server: Any, tmp_path: Path) -> None:
    chat_server.answer = lambda _: (400, {}, '{"error": {"message": "context too long"}}')
    with pytest.raises(Exception, match="too long"):
        ask(client_of(chat_server, tmp_path / "c"))
    chat_server.answer = lambda _: "fine"
    assert ask(client_of(chat_server, tmp_path / "c")).text == "fine"


def test_refused_parameters_come_along(chat_server: Any, tmp_path: Path) -> None:
    refusal: Any = (400, {}, '{"error": {"message": "temperature is not supported"}}')
    chat_server.answer = lambda body: refusal if "temperature" in body else "ok"
    ask(client_of(chat_server, tmp_path / "c"))
    again = client_of(chat_server, tmp_path / "c")
    assert ask(again).cached
    assert again.refused == {"temperature"}


@pytest.mark.parametrize(
    ("column", "content"),
    [
        ("reply", "{"),
        ("reply", "[]"),
        ("reply", '{"text": "yes"}'),
        ("reply", '{"text": 5, "model": "m", "fingerprint": null, "finish_reason": null}'),
        ("reply", "[" * 100_000),
        ("reply", b"\xff\xfe"),
        ("reply", b""),
        ("refused", "{"),
        # What earlier versions kept: a reply that is no answer, and thoughts for an answer.
        (
            "reply",
            '{"text": "", "model": "m", "fingerprint": null, "finish_reason": "stop", "tokens": 1}',
        ),
        (
            "reply",
            '{"text": "A", "model": "m", "fingerprint": null, "finish_reason": "length",'
            ' "tokens": 1}',
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_absent(
    chat_server: Any, tmp_path: Path, column: str, content: str | bytes
) -> None:
    ask(client_of(chat_server, tmp_path / "c"))
    with sqlite3.connect(tmp_path / "c") as file:
        assert file.execute(f"UPDATE replies SET {column} = ?", [content]).rowcount == 1
    again = ask(client_of(chat_server, tmp_path / "c"))
    assert (again.text, again.cached) == ("ok", False)
    assert ask(client_of(chat_server, tmp_path / "c")).cached  # the row is whole again
    assert len(chat_server.requests) == 2


def _write(file: str, start: int) -> int:
    cache = ReplyCache(Path(file))
    for number in range(start, start + 100):
        cache.put(request_key("e", {"n": number}), REPLY, [])
    cache.close()
    return start


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    file = tmp_path / "c.sqlite"
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        list(pool.map(_write, [str(file)] * 3, [0, 50, 100]))
    cache = ReplyCache(file)
    found = [cache.get(request_key("e", {"n": number})) for number in range(200)]
    assert all(one is not None and one.text == "yes" for one in found)
    cache.close()


def test_a_killed_process_loses_nothing_it_kept(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from sharegptvideo.endpoint import Reply
from sharegptvideo.endpoint.cache import ReplyCache
cache = ReplyCache(Path({str(tmp_path / "c")!r}))
for n in range(20):
    cache.put(f"{{n:064x}}", Reply(str(n), "m", None, None, 1), [])
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    cache = ReplyCache(tmp_path / "c")
    for n in range(20):
        found = cache.get(f"{n:064x}")
        assert found is not None
        assert found.text == str(n)
    cache.close()


ASK = """
import sys
from pathlib import Path
from sharegptvideo.endpoint import ChatClient, EndpointOptions, in_parallel
client = ChatClient("m", base_url=sys.argv[1], options=EndpointOptions(cache=Path(sys.argv[2])))
async def call(n):
    return await client.complete([{"role": "user", "content": f"q{n}"}])
print("ready", flush=True)
done = in_parallel(call, range(20), width=8, finish=client.close)
print(sum(reply.cached for _, reply in done))
"""


def _start(server: Any, file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASK, server.url, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_that_need_the_same_at_once_pay_once(
    chat_server: Any, tmp_path: Path
) -> None:
    together = threading.Event()
    chat_server.answer = lambda _: str(together.wait(60))
    runs = [_start(chat_server, tmp_path / "c") for _ in range(2)]
    threading.Timer(1, together.set).start()
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert sum(map(int, outputs)) == 20
    assert len(chat_server.requests) == 20


def test_a_killed_process_holds_up_no_other(chat_server: Any, tmp_path: Path) -> None:
    asked = threading.Event()

    def first_hangs(body: dict[str, Any]) -> str:
        if body["messages"][0]["content"] == "q0" and not asked.is_set():
            asked.set()
            hung.wait(60)
        return "ok"

    hung = threading.Event()
    chat_server.answer = first_hangs
    first = _start(chat_server, tmp_path / "c")
    assert asked.wait(30)
    second = _start(chat_server, tmp_path / "c")
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for what the first one asks
        second.wait(timeout=2)
    first.kill()
    assert int(second.communicate(timeout=30)[0]) < 20
    hung.set()
    first.communicate()
    texts = [body["messages"][0]["content"] for body in chat_server.requests]
    assert texts.count("q0") == 2


def test_equal_questions_of_one_client_are_asked_once(chat_server: Any, tmp_path: Path) -> None:
    client = client_of(chat_server, tmp_path / "c")

    async def call(text: str) -> Reply:
        return await client.complete([{"role": "user", "content": text}])

    chat_server.answer = lambda _: str(time.sleep(0.2))
    done = list(in_parallel(call, ["same"] * 8, width=8, finish=client.close))
    assert len(chat_server.requests) == 1
    assert sum(reply.cached for _, reply in done) == 7


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    _write(str(tmp_path / "c"), 0)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to be taken for one" * 40, None]
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "c"
    if content is None:
        with sqlite3.connect(file) as other:
            other.execute("CREATE TABLE mine (x)")
        other.close()
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(UserError, match="--no-cache") as caught:
        ReplyCache(file).get(request_key("e", {}))
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before


def test_a_full_disk_warns_once_and_the_work_goes_on(chat_server: Any, tmp_path: Path) -> None:
    client = client_of(chat_server, tmp_path / "c")
    cache = client._cache
    assert cache is not None
    cache._connection().execute("PRAGMA max_page_count = 1")
    chat_server.answer = lambda _: "long " * 5000
    with pytest.warns(UserWarning, match="no longer kept"):
        assert ask(client).text == "long " * 5000
