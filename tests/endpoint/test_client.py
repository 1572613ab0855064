"""The chat client against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sharegptvideo.endpoint import (
    ChatClient,
    EndpointError,
    EndpointOptions,
    Reply,
    find_endpoint,
    in_parallel,
)
from sharegptvideo.endpoint.options import Clock
from sharegptvideo.errors import UserError

MESSAGES = [{"role": "user", "content": "Hello"}]


def ask(client: ChatClient, n: int = 1, **options: Any) -> list[Reply]:
    async def call(_: int) -> Reply:
        return await client.complete(MESSAGES, **options)

    return [r for _, r in in_parallel(call, range(n), width=4, finish=client.close)]


def test_reply_keeps_model_fingerprint_and_tokens(chat_server: Any) -> None:
    chat_server.answer = lambda body: body["messages"][0]["content"] + " there"
    (reply,) = ask(ChatClient("m", base_url=chat_server.url))
    kept = Reply("Hello there", "m-0613", "fp_1", "stop", 10, 3, prompt_tokens=7, dollars=0.0)
    assert reply == kept  # one's own server costs nothing
    assert chat_server.requests[0]["temperature"] == 0


def test_retry_after_holds_back_every_call(chat_server: Any) -> None:
    """By a clock that only waits move on."""
    times: list[float] = []
    seconds = 100.0

    async def sleep(asked: float) -> None:
        nonlocal seconds
        seconds += asked
        await asyncio.sleep(0)

    def answer(_: dict[str, Any]) -> Any:
        times.append(seconds)
        return (429, {"Retry-After": "0.5"}, "{}") if len(times) == 1 else "ok"

    chat_server.answer = answer
    options = EndpointOptions(cache=False, clock=Clock(lambda: seconds, sleep))
    client = ChatClient("m", base_url=chat_server.url, first_wait=0.01, options=options)
    assert [r.text for r in ask(client)] == ["ok"]
    assert times == [100, 100.5]
    client._sender._pause(1, 0.3)
    ask(client, 2)
    assert all(at >= 100.8 for at in times[2:])


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}, "boom"),
        (503, {}, "{}"),
        None,
        (200, {}, "this is no JSON"),
        (200, {}, '{"choices": []}'),
        (200, {"Content-Type": "text/html"}, "<html>gateway</html>"),
        (200, {}, '["list"]'),
    ],
)
def test_passing_trouble_is_tried_again(chat_server: Any, trouble: Any) -> None:
    chat_server.answer = lambda _: trouble if len(chat_server.requests) < 3 else "fine"
    client = ChatClient("m", base_url=chat_server.url, first_wait=0.01)
    assert [r.text for r in ask(client)] == ["fine"]
    assert len(chat_server.requests) == 3


def test_json_that_is_not_called_so_is_read(chat_server: Any) -> None:
    completion = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}}]}
    chat_server.answer = lambda _: (200, {"Content-Type": "text/plain"}, json.dumps(completion))
    assert [r.text for r in ask(ChatClient("m", base_url=chat_server.url))] == ["yes"]


def test_a_call_fails_after_the_last_attempt(chat_server: Any) -> None:
    chat_server.answer = lambda _: (500, {}, '{"error": {"message": "on fire"}}')
    client = ChatClient("m", base_url=chat_server.url, first_wait=0.01, attempts=3)
    with pytest.raises(Exception, match=r"HTTP 500: on fire \(3 attempts\)"):
        ask(client)
    assert len(chat_server.requests) == 3


@pytest.mark.parametrize(("status", "fix"), [(401, "OPENAI_API_KEY"), (403, "key"), (404, "model")])
def test_permanent_errors_end_at_once(chat_server: Any, status: int, fix: str) -> None:
    chat_server.answer = lambda _: (status, {}, '{"error": {"message": "no"}}')
    with pytest.raises(EndpointError, match=fix) as caught:
        ask(ChatClient("m", base_url=chat_server.url))
    assert len(chat_server.requests) == 1
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_no_credit_ends_at_once(chat_server: Any) -> None:
    error = {"error": {"message": "You ran out", "code": "insufficient_quota"}}
    chat_server.answer = lambda _: (429, {}, json.dumps(error))
    with pytest.raises(EndpointError, match="credit"):
        ask(ChatClient("m", base_url=chat_server.url))
    assert len(chat_server.requests) == 1


def test_a_server_that_stays_down_ends_the_work(chat_server: Any) -> None:
    chat_server.answer = lambda _: (500, {}, "{}")
    client = ChatClient("m", base_url=chat_server.url, first_wait=0.0, attempts=1)

    async def call(_: int) -> str:
        try:
            await client.complete(MESSAGES)
        except EndpointError:
            raise
        except Exception:  # noqa: BLE001 - the test counts what is no EndpointError
            return "failed"
        return "ok"

    seen: list[Any] = []
    with pytest.raises(EndpointError, match="in a row"):
        seen.extend(found for _, found in in_parallel(call, range(100), width=2))
    assert set(seen) == {"failed"}
    assert len(chat_server.requests) < 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0"),
        ("response_format", "response_format is not supported"),
        ("response_format", "This model knows no json_schema"),
        ("max_tokens", "Use 'max_completion_tokens' instead of 'max_tokens'."),
    ],
)
def test_a_refused_parameter_is_left_out(chat_server: Any, name: str, message: str) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return (400, {}, json.dumps({"error": {"message": message}})) if name in body else "ok"

    chat_server.answer = answer
    client = ChatClient("m", base_url=chat_server.url)
    assert [r.text for r in ask(client, response_format={"type": "json_object"})] == ["ok"]
    assert client.refused == {name}
    assert ("max_completion_tokens" in chat_server.requests[-1]) == (name == "max_tokens")
    ask(client)
    assert len(chat_server.requests) == 3


def test_a_text_that_is_too_long_refuses_no_parameter(chat_server: Any) -> None:
    error = {"error": {"message": "maximum context length is 9; reduce max_tokens"}}
    chat_server.answer = lambda _: (400, {}, json.dumps(error))
    client = ChatClient("m", base_url=chat_server.url)
    with pytest.raises(Exception, match="context length"):
        ask(client)
    assert client.refused == set()
    assert len(chat_server.requests) == 1


def test_no_more_calls_at_once_than_asked(chat_server: Any) -> None:
    """The server answers once two calls are there."""
    together = threading.Barrier(2)

    def answer(_: dict[str, Any]) -> str:
        together.wait(60)
        return "ok"

    chat_server.answer = answer
    assert len(ask(ChatClient("m", base_url=chat_server.url), 24)) == 24
    assert 2 <= chat_server.most_at_once <= 4


def test_check_knows_listed_models_and_names_near_ones(chat_server: Any) -> None:
    chat_server.models = ["judge-large", "other"]
    ChatClient("judge-large", base_url=chat_server.url).check()
    assert chat_server.requests == []
    chat_server.answer = lambda _: (404, {}, '{"error": {"message": "not found"}}')
    with pytest.raises(EndpointError, match="did you mean judge-large"):
        ChatClient("judge-larg", base_url=chat_server.url).check()


def test_check_takes_a_server_that_lists_nothing(chat_server: Any) -> None:
    ChatClient("any", base_url=chat_server.url).check()
    assert [body["max_tokens"] for body in chat_server.requests] == [1]


def test_check_says_that_no_server_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="connection refused; start the server") as caught:
        ChatClient("m", base_url=f"http://127.0.0.1:{port}/v1").check()
    assert "\n" not in str(caught.value)


def test_endpoint_comes_from_option_environment_or_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="OPENAI_BASE_URL"):
        find_endpoint()
    with pytest.raises(UserError, match="http://HOST:PORT/v1"):
        find_endpoint("localhost:8000")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert find_endpoint().base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://a:1/v1/")
    assert find_endpoint().base_url == "http://a:1/v1"
    assert find_endpoint("http://b:2/v1").base_url == "http://b:2/v1"
    assert "secret" not in repr(find_endpoint())


def test_in_parallel_stops_when_the_caller_does() -> None:
    cancelled = []

    async def call(item: int) -> int:
        try:
            await asyncio.sleep(0 if item == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    def endless() -> Iterator[int]:
        yield from range(10**9)

    results = in_parallel(call, endless(), width=3)
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined] # it is a generator
    assert len(cancelled) in {2, 3}


def test_in_parallel_gives_results_before_an_error() -> None:
    async def call(item: int) -> int:
        if item == 2:
            raise RuntimeError("third")
        return item

    seen: list[Any] = []
    with pytest.raises(RuntimeError, match="third"):
        seen.extend(item for item, _ in in_parallel(call, range(5), width=1))
    assert seen == [0, 1]
    with pytest.raises(ValueError, match="width 0"):
        next(in_parallel(call, [], width=0))
