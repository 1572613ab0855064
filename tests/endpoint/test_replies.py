"""What real servers send: one reading of it, and what is no answer is never taken for one."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.endpoint import (
    CallFailedError,
    ChatClient,
    EndpointError,
    EndpointOptions,
    NoAnswerError,
    Reply,
    in_parallel,
)
from sharegptvideo.endpoint.messages import read_reply, split_reasoning
from sharegptvideo.errors import UserError
from sharegptvideo.models import Request, SamplingParams
from sharegptvideo.models.served import ServedModel


def completion(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    given = {"role": "assistant", "content": "grey"} if message is None else message
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": given} | choice]}


def ask(client: ChatClient, texts: list[str] | None = None, **options: Any) -> list[Any]:
    async def call(text: str) -> Reply | CallFailedError:
        try:
            return await client.complete([{"role": "user", "content": text}], **options)
        except CallFailedError as error:
            return error

    done = in_parallel(call, texts or ["Hello"], width=1, finish=client.close)
    return [result for _, result in done]


def client_of(server: Any, **options: Any) -> ChatClient:
    made = EndpointOptions(**{"cache": False, "concurrency": 1} | options)
    return ChatClient("m", base_url=server.url, first_wait=0.0, options=made)


def answered(server: Any, body: object) -> Any:
    server.answer = lambda _: (200, {}, json.dumps(body))
    return ask(client_of(server))[0]


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"content": [{"type": "text", "text": "The square"}, " is grey."]}, None),
        ({"content": [{"type": "output_text", "text": "The square is grey."}]}, None),
        ({"content": {"type": "text", "text": "The square is grey."}}, None),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Red?"}]},
                    {"type": "text", "text": "The square is grey."},
                ]
            },
            "Red?",
        ),
        ({"content": "The square is grey.", "reasoning_content": "Red?"}, "Red?"),
        ({"content": "The square is grey.", "reasoning": "Red?", "refusal": None}, "Red?"),
        ({"content": "<think>Red?</think>\n\nThe square is grey."}, "Red?"),
        ({"content": "Red?\n</think>\n\nThe square is grey."}, "Red?"),
    ],
)
def test_an_answer_is_read_without_its_reasoning(
    chat_server: Any, message: dict[str, Any], reasoning: str | None
) -> None:
    reply = answered(chat_server, completion(message))
    assert (reply.text, reply.reasoning) == ("The square is grey.", reasoning)


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("no marks at all ", "no marks at all ", None),
        ("<think>a</think>b", "b", "a"),
        ("<THINK>a</THINK> b <think>c</think> d", "b  d", "a\nc"),
        ("<think>a <think>b</think> c</think> d", "d", "a\nb\nc"),
        ("<think>a", "", "a"),
        ("a</think>", "", "a"),
        ("◁think▷a◁/think▷b", "b", "a"),
        ("<seed:think>a</seed:think>b", "b", "a"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"
            "<|return|>",
            "b",
            "a",
        ),
        ('{"explanation": "</think>"}', '{"explanation": "</think>"}', None),
    ],
)
def test_reasoning_is_split_off(text: str, answer: str, reasoning: str | None) -> None:
    assert split_reasoning(text) == (answer, reasoning)


def test_a_reply_made_of_marks_takes_no_longer_than_another() -> None:
    begin = time.process_time()
    assert split_reasoning("<think>" * 200_000)[0] == ""
    assert time.process_time() - begin < 5


NO_ANSWER = [
    (completion({"content": ""}), "an empty answer"),
    (completion({"content": None}), "an empty answer"),
    (completion({"content": [{"type": "thinking", "thinking": "Hm."}]}), "reasoning and no answer"),
    (completion({"content": None, "refusal": "I cannot say."}), "refused: I cannot say"),
    (completion({"content": [{"type": "refusal", "refusal": "No."}]}), "refused: No"),
    (completion(finish_reason="length"), "cut off at the limit of tokens"),
    (completion(finish_reason="MAX_TOKENS"), "cut off at the limit of tokens"),
    (completion(finish_reason="content_filter"), "withheld by the endpoint's content filter"),
    (completion(finish_reason="SAFETY"), "withheld by the endpoint's content filter"),
    (completion(finish_reason="PROHIBITED_CONTENT"), "withheld by the endpoint's content filter"),
    (completion(finish_reason="tool_calls"), "tool_calls"),
]


@pytest.mark.parametrize(("body", "cause"), NO_ANSWER)
def test_what_is_no_answer_fails_at_once_with_its_cause_and_is_not_kept(
    chat_server: Any, tmp_path: Path, body: object, cause: str
) -> None:
    chat_server.answer = lambda _: (200, {}, json.dumps(body))
    client = client_of(chat_server, cache=tmp_path / "c")
    (error,) = ask(client)
    assert isinstance(error, NoAnswerError)
    assert cause in str(error)
    assert len(chat_server.requests) == 1
    chat_server.answer = lambda _: "grey"
    assert ask(client)[0].text == "grey"


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "end_turn", "stop_sequence", None, ""])
def test_a_plain_end_has_many_names(chat_server: Any, reason: str | None) -> None:
    assert answered(chat_server, completion(finish_reason=reason)).text == "grey"


@pytest.mark.parametrize(("body", "cause"), NO_ANSWER)
def test_a_served_model_has_failed_where_it_gave_no_answer(
    chat_server: Any, body: object, cause: str
) -> None:
    chat_server.answer = lambda _: (200, {}, json.dumps(body))
    model = ServedModel("m", base_url=chat_server.url, options=EndpointOptions(cache=False))
    (answer,) = model.generate([Request("What?")], SamplingParams())
    assert answer.texts == ()
    assert cause in (answer.error or "")


@pytest.mark.parametrize(
    "body",
    [
        completion({"content": ""}, finish_reason="error", error={"code": 502, "message": "Up"}),
        completion({"content": "gr"}, finish_reason="insufficient_system_resource"),
        {"error": {"message": "Try again", "code": 503}},
        {"error": "overloaded"},
        {"object": "error", "message": "busy", "code": 429},
    ],
)
def test_trouble_in_a_200_is_tried_again(chat_server: Any, body: object) -> None:
    chat_server.answer = lambda _: (
        (200, {}, json.dumps(body)) if len(chat_server.requests) < 3 else "grey"
    )
    assert ask(client_of(chat_server))[0].text == "grey"
    assert len(chat_server.requests) == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "Insufficient credits. Top up", "code": 402}, "Insufficient credits"),
        ({"message": "Insufficient Balance"}, "no credit"),
        ({"message": "Invalid API key", "code": "invalid_api_key"}, "OPENAI_API_KEY"),
    ],
)
def test_an_error_in_a_200_that_will_stay_ends_the_work(
    chat_server: Any, error: dict[str, Any], said: str
) -> None:
    chat_server.answer = lambda _: (200, {}, json.dumps({"error": error}))
    with pytest.raises(EndpointError, match=said):
        ask(client_of(chat_server), ["a", "b"])
    assert len(chat_server.requests) == 1


def test_an_error_in_a_200_about_one_text_fails_it_alone(chat_server: Any) -> None:
    error = {"error": {"message": "context length exceeded", "code": 400}}
    chat_server.answer = lambda body: (
        (200, {}, json.dumps(error)) if body["messages"][0]["content"] == "b" else "ok"
    )
    results = ask(client_of(chat_server), ["a", "b", "c"])
    assert [getattr(each, "text", None) for each in results] == ["ok", None, "ok"]
    assert "context length exceeded" in str(results[1])
    assert len(chat_server.requests) == 3


SCHEMA = {"type": "json_schema"}


@pytest.mark.parametrize("position", [0, 3])
def test_one_text_that_fails_to_give_json_leaves_the_schema_to_the_others(
    chat_server: Any, position: int
) -> None:
    error = {"message": "Failed to generate JSON", "code": "json_validate_failed"}
    odd = f"q{position}"

    def answer(body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] == odd and "response_format" in body:
            return 400, {}, json.dumps({"error": error})
        return "ok"

    chat_server.answer = answer
    replies = ask(client_of(chat_server), [f"q{n}" for n in range(6)], response_format=SCHEMA)
    assert [reply.left_out for reply in replies] == [
        ("response_format",) if n == position else () for n in range(6)
    ]
    assert sum("response_format" not in body for body in chat_server.requests) == 1


@pytest.mark.parametrize("position", [0, 3])
def test_a_400_that_echoes_its_text_changes_nothing_for_the_others(
    chat_server: Any, position: int
) -> None:
    """Its words are those of a server that does not take a parameter, or knows no model."""
    odd = f"q{position}: the model does not support temperature, and does not exist"

    def answer(body: dict[str, Any]) -> Any:
        text = body["messages"][0]["content"]
        if text == odd:
            return 400, {}, json.dumps({"error": {"message": f"cannot read {text!r}"}})
        return "ok"

    chat_server.answer = answer
    texts = [odd if n == position else f"q{n}" for n in range(6)]
    if position == 0:  # before any answer it may be so: tried again with one
        texts = ["first", *texts]
    client = client_of(chat_server)
    replies = ask(client, texts)
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == ["ok"] * (
        len(texts) - 1
    )
    others = [b for b in chat_server.requests if b["messages"][0]["content"] != odd]
    assert all("temperature" in body for body in others)
    assert client.refused == set()


def test_a_parameter_is_left_out_only_once_an_answer_came_without_it(chat_server: Any) -> None:
    echo = {"error": {"message": "cannot read 'is a seed that is not supported here?'"}}
    chat_server.answer = lambda body: (
        (400, {}, json.dumps(echo)) if body["messages"][0]["content"] == "odd" else "ok"
    )
    client = client_of(chat_server)
    assert isinstance(ask(client, ["odd"], seed=5)[0], CallFailedError)
    assert client.refused == set()
    assert ask(client, ["even"], seed=5)[0].left_out == ()


def test_what_every_text_is_refused_for_is_left_out_after_a_few(chat_server: Any) -> None:
    chat_server.answer = lambda body: (
        (400, {}, '{"error": {"message": "json trouble"}}') if "response_format" in body else "ok"
    )
    ask(client_of(chat_server), [f"q{n}" for n in range(9)], response_format=SCHEMA)
    assert sum("response_format" in body for body in chat_server.requests) == 3


# A size and an end.


@contextmanager
def raw_server(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve what `send` writes after each request's head; yields the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    read_request(connection)
                    send(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.close()


def read_request(connection: socket.socket) -> None:
    """Read all of it: closing a connection with bytes unread resets it."""
    with connection.makefile("rb") as file:
        length = 0
        while (line := file.readline()) not in {b"", b"\r\n"}:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        file.read(length)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def big(status: bytes) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        head = HEAD.replace(b"200 OK", status)
        connection.sendall(head + b"Content-Length: 3000000000\r\n\r\n")
        for _ in range(3000):
            connection.sendall(b" " * 1_000_000)

    return send


def packed(connection: socket.socket) -> None:
    body = gzip.compress(b" " * (64 << 20))
    length = f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(HEAD + length.encode() + body)


@pytest.mark.parametrize("send", [big(b"200 OK"), big(b"500 No"), packed])
def test_a_reply_is_read_up_to_a_limit(
    send: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with raw_server(send) as url:
        (error,) = ask(ChatClient("m", base_url=url, attempts=2, first_wait=0.0))
    assert "larger than 16" in str(error)


def test_the_limit_is_that_of_the_options(chat_server: Any) -> None:
    chat_server.answer = lambda _: "x" * 3000
    (error,) = ask(client_of(chat_server, max_reply_bytes=2000))
    assert isinstance(error, CallFailedError)
    assert ask(client_of(chat_server, max_reply_bytes=4000))[0].text == "x" * 3000


def test_a_try_has_a_deadline_however_the_bytes_drip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        while not over.wait(0.05):
            connection.sendall(b" ")

    async def patient(client: ChatClient) -> str:
        with pytest.raises(CallFailedError, match="no answer in time"):
            await asyncio.wait_for(client.complete([{"role": "user", "content": "x"}]), 60)
        await client.close()
        return "given up"

    with raw_server(drip) as url:
        client = ChatClient("m", base_url=url, attempts=1, timeout=0.5)
        assert asyncio.run(patient(client)) == "given up"
        over.set()


def test_a_reply_nested_too_deeply_fails_alone(chat_server: Any) -> None:
    chat_server.answer = lambda body: (
        (200, {}, "[" * 200_000) if body["messages"][0]["content"] == "b" else "ok"
    )
    results = ask(client_of(chat_server), ["a", "b", "c"])
    assert [getattr(each, "text", None) for each in results] == ["ok", None, "ok"]
    assert "nested too deeply" in str(results[1])


def test_a_redirect_takes_the_key_nowhere(chat_server: Any) -> None:
    chat_server.answer = lambda _: (307, {"Location": "http://127.0.0.1:9/v1/x"}, "")
    with pytest.raises(EndpointError, match=r"moved to http://127\.0\.0\.1:9/v1/x; fix --base-url"):
        ask(client_of(chat_server))


# Keys, proxies and certificates.


def test_a_key_is_taken_out_of_replies(
    chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-test-secret-123"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    body = completion({"content": f"key {key}", "reasoning": f"it is {key}"})
    chat_server.answer = lambda _: (200, {}, json.dumps(body | {"model": key}))
    (reply,) = ask(client_of(chat_server, cache=tmp_path / "c"))
    assert reply.text == "key (the key)"
    assert key not in repr(reply)
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.iterdir())


KEY = "sk-test-secret-123"


@pytest.mark.parametrize(
    "body",
    [
        completion({"content": "", "refusal": "x" * 150 + KEY}),
        completion(finish_reason="x" * 150 + KEY),
        completion(finish_reason="error " + KEY),
        completion({"content": {KEY: "x" * 150 + KEY}}),
        completion({"content": [{"type": "text", "text": KEY[:9]}, KEY[9:]]}),
        {KEY: 1},
        {"error": {"message": "x" * 150 + KEY, "code": 400}},
        {"error": "x" * 150 + KEY},
        {"promptFeedback": {"blockReason": KEY}},
    ],
)
def test_no_part_of_a_key_is_in_any_failure(
    chat_server: Any, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    """Messages are cut short: half of a key would be left where that comes first."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (result,) = ask_bodies(chat_server, body)
    assert KEY[:6] not in repr(result) + str(result)


def ask_bodies(server: Any, body: Any) -> list[Any]:
    server.answer = lambda _: (200, {}, json.dumps(body))
    return ask(client_of(server))


def test_a_word_in_place_of_a_key_stays_in_answers(
    chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "grey")
    assert answered(chat_server, completion()).text == "grey"


@pytest.mark.parametrize(
    ("address", "key", "warned"),
    [
        ("http://model.invalid/v1", "sk-test-secret-1", True),
        ("http://192.0.2.7:8000/v1", "sk-test-secret-1", True),
        ("https://model.invalid/v1", "sk-test-secret-1", False),
        ("http://localhost:1/v1", "sk-test-secret-1", False),
        ("http://[::1]:1/v1", "sk-test-secret-1", False),
        ("http://other.invalid/v1", "EMPTY", False),
    ],
)
def test_a_key_over_plain_http_to_another_host_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, address: str, key: str, warned: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = ChatClient("m", base_url=address)
        client._sender.open()
        asyncio.run(client.close())
    said = [str(each.message) for each in caught if "without encryption" in str(each.message)]
    assert bool(said) == warned
    assert not any(key in each for each in said)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("all_proxy", "socks://127.0.0.1:1080"),
        ("HTTPS_PROXY", "ftp://proxy:1"),
        ("HTTP_PROXY", "http://proxy:port"),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem"),
        ("SSL_CERT_FILE", __file__),
        ("SSL_CERT_DIR", "/nonexistent"),
    ],
)
def test_a_wrong_variable_is_named_in_one_line(
    chat_server: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}={value}: "):
        ask(client_of(chat_server))


def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(
        EndpointError, match=r"the proxy http://127\.0\.0\.1:9 of HTTP_PROXY"
    ) as caught:
        ChatClient("m", base_url="http://127.0.0.1:1/v1").check()
    assert "secret" not in str(caught.value)


def test_the_hub_without_a_scheme_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sharegptvideo.data.sources.hub import hub_errors

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    wrong = pytest.raises(UserError, match=r"^HF_ENDPOINT=hub\.example: no address")
    with wrong, hub_errors("a/b", None, "fix"):
        pytest.fail("it began")


@pytest.mark.parametrize(
    ("usage", "prompt", "cached"),
    [
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, 9, 4),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}}, 9, 0),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, 9, None),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 4}, 9, 5),
        ({"prompt_tokens": 9, "cache_read_input_tokens": 6}, 9, 6),
        ({"total_tokens": 12, "completion_tokens": 3}, 9, None),
        ({"prompt_tokens": "nine", "prompt_tokens_details": [1]}, 0, None),
        (None, 0, None),
    ],
)
def test_tokens_of_the_prompt_and_of_the_servers_cache(
    usage: Any, prompt: int, cached: int | None
) -> None:
    choice = {"finish_reason": "stop", "message": {"content": "yes"}}
    reply = read_reply({"choices": [choice], "usage": usage}, "m")
    assert (reply.prompt_tokens, reply.cached_tokens) == (prompt, cached)
