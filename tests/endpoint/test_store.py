"""The store of replies: none that was paid for is lost, whichever process is killed when."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.endpoint import ChatClient, EndpointOptions, Reply, ReplyStore, in_parallel
from sharegptvideo.endpoint.cache import request_key
from sharegptvideo.errors import UserError

REPLY = Reply("yes", "m-1", "fp", "stop", 12, 2, attempts=2, dollars=0.25, left_out=("seed",))


def key_of(number: int) -> str:
    return request_key("e", {"n": number})


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def ask(
    options: EndpointOptions, url: str, texts: list[str], **chosen: Any
) -> list[tuple[str, Reply]]:
    client = ChatClient("m", base_url=url, options=options, first_wait=0.0)

    async def call(text: str) -> Reply:
        return await client.complete([{"role": "user", "content": text}], **chosen)

    return list(in_parallel(call, texts, width=8, finish=client.close))


def test_what_is_put_is_there_with_all_it_has(tmp_path: Path) -> None:
    odd = replace(REPLY, text="yes \ud800 \0 \u2028 \n", reasoning="thought", dollars=None)
    with ReplyStore(tmp_path / "replies") as store:
        assert store.get(key_of(1)) is None
        store.put(key_of(1), REPLY)
        store.put(key_of(2), odd)
        assert store.get(key_of(1)) == replace(REPLY, cached=True)
    again = ReplyStore(tmp_path / "replies")
    assert len(again) == 2
    assert again.get(key_of(2)) == replace(odd, cached=True)
    assert dict(again) == {key_of(1): REPLY, key_of(2): odd}
    (file,) = files(tmp_path / "replies")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(line.startswith('{"key": "') for line in file.read_text().splitlines())


def test_nothing_is_written_before_there_is_something(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "replies") as store:
        assert (store.get(key_of(1)), list(store), len(store)) == (None, [], 0)
        assert store  # as in `given or ReplyStore(...)`
    assert not (tmp_path / "replies").exists()
    with store:
        store.check()
    assert files(tmp_path / "replies") == []


def _write(store: ReplyStore, start: int) -> int:
    for number in range(start, start + 100):
        store.put(key_of(number), replace(REPLY, text=str(number)))
    store.close()
    return os.getpid()


def test_processes_that_share_a_folder_see_each_others_replies(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    store.put(key_of(1000), REPLY)
    assert len(store) == 1
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_write, [store, store], [0, 50]))
    assert store.get(key_of(70)) is None
    store.refresh()
    texts = [found.text for number in range(150) if (found := store.get(key_of(number)))]
    assert texts == [str(number) for number in range(150)]
    assert store.get(key_of(1000)) is not None
    assert len(store) == 201
    store.refresh()
    assert len(store) == 201
    # Those that both asked were paid for twice, and a report says so.
    assert Counter(Counter(key for key, _ in store).values()) == {1: 101, 2: 50}


def test_a_fork_has_a_file_of_its_own(tmp_path: Path) -> None:
    with ReplyStore(tmp_path) as store:
        store.put(key_of(1), REPLY)
        child = os.fork()
        if child == 0:
            store.put(key_of(2), REPLY)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        store.put(key_of(3), REPLY)
        store.refresh()
        assert all(store.get(key_of(number)) for number in (1, 2, 3))
    assert sorted(len(file.read_text().splitlines()) for file in files(tmp_path)) == [1, 2]


def line_of(number: int, **changes: Any) -> str:
    row = {"text": "t", "model": "m", "fingerprint": None, "finish_reason": "stop", "tokens": 1}
    return json.dumps({"key": key_of(number), **row, "left_out": [], "cached": False, **changes})


@pytest.mark.parametrize(
    "damaged",
    [
        line_of(1)[:40],
        line_of(1)[:90],
        line_of(1)[:-1],
        line_of(1)[:-3] + "\0\0\0",
        line_of(1, text=5),
        line_of(1, dollars="a lot"),
        line_of(1, left_out="seed"),
        line_of(1, finish_reason="length"),
        line_of(1, text="[" * 9)[:-60] + "[" * 100_000,
        "[1]",
        "",
        "\0" * 500,
        json.dumps({"key": "x" * 64, "text": "t"}),
        json.dumps({"text": "t", "key": key_of(1)}),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_torn_or_damaged_line_is_absent_and_the_others_are_there(
    tmp_path: Path, damaged: str, end: str
) -> None:
    last = f"\n{line_of(2)}\n" if end else ""
    (tmp_path / "host-1-ab.jsonl").write_text(f"{line_of(0)}\n{damaged}{last}")
    store = ReplyStore(tmp_path)
    assert store.get(key_of(1)) is None
    assert store.get(key_of(0)) is not None
    assert (store.get(key_of(2)) is not None) == bool(end)
    assert [key for key, _ in store] == [key_of(number) for number in ((0, 2) if end else (0,))]
    store.put(key_of(1), REPLY)
    assert store.get(key_of(1)) == replace(REPLY, cached=True)
    store.close()
    # Whichever of the two lines is read first.
    (tmp_path / "host-1-ab.jsonl").rename(tmp_path / "a-first-1-ab.jsonl")
    again = ReplyStore(tmp_path).get(key_of(1))
    assert again == replace(REPLY, cached=True)


def test_a_line_that_is_being_written_counts_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "host-1-ab.jsonl"
    file.write_text(line_of(1)[:50])
    store = ReplyStore(tmp_path)
    assert store.get(key_of(1)) is None
    with file.open("a") as more:
        more.write(line_of(1)[50:] + "\n")
    store.refresh()
    assert store.get(key_of(1)) is not None


def test_keys_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    first, second = "a" * 60 + "0000", "a" * 60 + "1111"
    store.put(first, REPLY)
    assert store.get(second) is None
    store.put(second, replace(REPLY, text="no"))
    assert [store.get(key).text for key in (first, second)] == ["yes", "no"]  # type: ignore[union-attr]
    store.close()


def test_many_lines_are_known_by_their_beginnings(tmp_path: Path) -> None:
    """Both ways into the index: line by line, and a file at once; sorted and not yet sorted."""
    keys = [key_of(number) for number in range(100_000)]
    with ReplyStore(tmp_path) as store:
        for key in keys:
            store.put(key, REPLY)
        assert len(store) == 100_000
        assert all(store.get(key) for key in keys[::997])
        keys_too, other = keys[::997], ReplyStore(tmp_path)
        assert all(other.get(key) for key in keys_too)
        for key in keys_too[:5]:
            store.put(key, REPLY)
        other.refresh()
        assert len(other) == len(store) == 100_005
        assert other.get(key_of(100_001)) is None


@contextlib.contextmanager
def nearly_full(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: a write is cut there, the next one refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_the_work_and_what_was_written_stays(
    chat_server: Any, tmp_path: Path
) -> None:
    options = EndpointOptions(cache=False, store=ReplyStore(tmp_path), concurrency=1)
    ask(options, chat_server.url, ["first"])
    whole = files(tmp_path)[0].read_bytes()
    client = ChatClient("m", base_url=chat_server.url, options=options)

    async def call(text: str) -> Reply:
        return await client.complete([{"role": "user", "content": text}])

    calls = in_parallel(call, ["a", "b"], width=1, finish=client.close)
    with nearly_full(len(whole) + 10):
        # "a" was paid for before anything was known: its caller has it. "b" is not asked.
        assert next(calls)[1].text == "ok"
        with pytest.raises(UserError, match="the disk is full; free some space") as caught:
            next(calls)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert len(chat_server.requests) == 2
    assert options.store is not None
    options.store.close()  # reported already
    assert files(tmp_path)[0].read_bytes() == whole  # and nothing torn after it


def test_the_last_reply_that_is_not_kept_is_reported_too(
    tmp_path: Path,
) -> None:
    def work(store: ReplyStore) -> None:
        with nearly_full(10), store:
            store.put(key_of(1), REPLY)

    def failing_work(store: ReplyStore) -> None:
        with nearly_full(10), store:
            store.put(key_of(1), REPLY)
            raise ValueError("what says more")

    store = ReplyStore(tmp_path)
    with pytest.raises(UserError, match="the disk is full"):
        work(store)
    store.close()
    with pytest.raises(ValueError, match="what says more"):
        failing_work(ReplyStore(tmp_path))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_asked(
    chat_server: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    options = EndpointOptions(cache=False, store=ReplyStore(tmp_path / "file" / "replies"))
    with pytest.raises(UserError, match="file") as caught:
        ask(options, chat_server.url, ["a"])
    assert "\n" not in str(caught.value)
    assert not chat_server.requests


def test_a_folder_that_is_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies")
    store.put(key_of(1), REPLY)
    files(tmp_path / "replies")[0].unlink()
    store.put(key_of(2), REPLY)
    with pytest.raises(UserError, match="No such file"):
        store.check()


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "host-1-ab.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be read") as caught:
        list(ReplyStore(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_store_goes_before_the_cache_and_takes_what_the_cache_has(
    chat_server: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "c.sqlite"
    ((_, first),) = ask(EndpointOptions(cache=cache), chat_server.url, ["a"])
    assert (first.cached, first.attempts, first.dollars) == (False, 1, 0.0)  # one's own server
    store = ReplyStore(tmp_path / "replies")
    both = EndpointOptions(cache=cache, store=store)
    done = dict(ask(both, chat_server.url, ["a", "b"]))
    assert {text: reply.cached for text, reply in done.items()} == {"a": True, "b": False}
    # From here on neither needs the other.
    alone = EndpointOptions(cache=False, store=pickle.loads(pickle.dumps(store)))
    done = dict(ask(alone, chat_server.url, ["a", "b"]))
    assert all(reply.cached for reply in done.values())
    assert alone.budget.cached == 2
    assert all(
        reply.cached for _, reply in ask(EndpointOptions(cache=cache), chat_server.url, ["b"])
    )
    assert len(chat_server.requests) == 2
    # What was not paid for here is marked.
    assert sorted(reply.cached for _, reply in store) == [False, True]
    store.close()


def test_draws_are_kept_by_their_seed_and_failures_never(chat_server: Any, tmp_path: Path) -> None:
    options = EndpointOptions(cache=False, store=ReplyStore(tmp_path))
    for seed in (1, 2, 1, None, None):
        ask(options, chat_server.url, ["a"], temperature=1.0, seed=seed)
    assert len(chat_server.requests) == 4
    chat_server.answer = lambda _: (400, {}, '{"error": {"message": "too long"}}')
    with pytest.raises(Exception, match="too long"):
        ask(options, chat_server.url, ["b"])
    assert options.store is not None
    options.store.close()
    assert len(ReplyStore(tmp_path)) == 2


def test_equal_requests_at_once_are_asked_once(chat_server: Any, tmp_path: Path) -> None:
    options = EndpointOptions(cache=False, store=ReplyStore(tmp_path))
    chat_server.answer = lambda _: str(time.sleep(0.2))
    done = ask(options, chat_server.url, ["same"] * 8)
    assert len(chat_server.requests) == 1
    assert sum(reply.cached for _, reply in done) == 7


def test_attempts_and_dollars_are_those_of_the_call(chat_server: Any, tmp_path: Path) -> None:
    """A dollar a token: 10 for the answer, and for one that was cut off its 9.25 of the prompt."""
    (tmp_path / "prices.yaml").write_text(
        "date: 2026-01-02\nhosts: {127.0.0.1: {m: {prompt: 1000000, completion: 1000000}}}\n"
    )
    outcomes: list[Any] = [
        (400, {}, '{"error": {"message": "Unsupported parameter: \'seed\'", "param": "seed"}}'),
        None,
        (500, {}, "{}"),
        "ok",
    ]
    chat_server.answer = lambda _: outcomes.pop(0) if outcomes else "ok"
    store = ReplyStore(tmp_path / "replies")
    options = EndpointOptions(cache=False, store=store, prices=tmp_path / "prices.yaml")
    ((_, reply),) = ask(options, chat_server.url, ["q0001"], seed=1)
    assert (reply.attempts, reply.dollars) == (4, pytest.approx(10 + 9.25))
    assert reply.dollars == pytest.approx(options.budget.spent)
    ((_, again),) = ask(options, chat_server.url, ["q0001"], seed=1)
    assert again == replace(reply, cached=True)
    assert options.budget.spent == pytest.approx(reply.dollars)
    store.close()


# Imports once; each line on stdin starts a run in a fork, which asks for all and ends.
_STARTER = """
import gc, os, sys
import httpx2, openai, openai.types.chat
from pathlib import Path
from sharegptvideo.endpoint import ChatClient, EndpointOptions, ReplyStore, in_parallel
import sharegptvideo.endpoint.http
url, folder, number = sys.argv[1:]
gc.collect()
gc.freeze()
for _ in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if pid == 0:
        store = ReplyStore(Path(folder))
        options = EndpointOptions(cache=False, store=store, concurrency=64)
        client = ChatClient("m", base_url=url, options=options)
        async def call(n):
            return await client.complete([{"role": "user", "content": f"q{n}"}])
        done = list(in_parallel(call, range(int(number)), width=64, finish=client.close))
        store.close()
        os._exit(0 if all(reply.text == f"a q{n}" for n, reply in done) else 1)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def test_ten_kills_with_64_calls_under_way_cost_no_more_than_those_calls(
    chat_server: Any, tmp_path: Path
) -> None:
    kills, number, draw = 10, 1700, random.Random(7)
    asked: Counter[str] = Counter()
    under_way, most, lock, bell = 0, 0, threading.Lock(), threading.Event()
    bell_at, killed = 0, threading.Event()

    def answer(body: dict[str, Any]) -> str:
        nonlocal under_way, most
        text = body["messages"][0]["content"]
        with lock:
            asked[text] += 1
            under_way += 1
            most = max(most, under_way)
            if asked.total() >= bell_at:
                bell.set()
            late = bell.is_set()
        if late:  # under way when the process is killed
            killed.wait(60)
        time.sleep(0.03)
        with lock:
            under_way -= 1
        return f"a {text}"

    chat_server.answer = answer
    command = [sys.executable, "-c", _STARTER, chat_server.url, str(tmp_path), str(number)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for _ in range(kills):
            # So many requests on, at a moment that may lie anywhere within a call.
            bell.clear()
            killed.clear()
            bell_at = asked.total() + draw.randrange(60, 100)
            print(file=starter.stdin, flush=True)
            pid = int(starter.stdout.readline())
            assert bell.wait(60)
            time.sleep(draw.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
            killed.set()
            assert int(starter.stdout.readline()) == signal.SIGKILL
            while under_way:  # the server does not know yet
                time.sleep(0.01)
            lost = asked.keys() - {reply.text[2:] for _, reply in ReplyStore(tmp_path)}
            assert len(lost) <= 64
        bell.clear()
        bell_at = sys.maxsize
        before, paid = asked.total(), len(ReplyStore(tmp_path))
        print(file=starter.stdin, flush=True)
        starter.stdout.readline()
        assert int(starter.stdout.readline()) == 0
    assert asked.total() - before == number - paid
    assert len(asked) == len(ReplyStore(tmp_path)) == number
    assert asked.total() - number <= kills * 64
    assert most <= 64
