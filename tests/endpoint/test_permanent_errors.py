"""A permanent error ends the work at once, in whatever words; and a key shows up nowhere."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.endpoint import (
    CallFailedError,
    ChatClient,
    EndpointError,
    EndpointOptions,
    find_endpoint,
    in_parallel,
)
from sharegptvideo.errors import UserError

KEY = "sk-0123456789abcdefghijklmnopqrstuvwxyz"


def ask(client: ChatClient, number: int = 1) -> list[Any]:
    async def call(n: int) -> str:
        try:
            return (await client.complete([{"role": "user", "content": f"q{n}"}])).text
        except CallFailedError as error:
            return f"failed: {error}"

    return [r for _, r in in_parallel(call, range(number), width=8, finish=client.close)]


def refusal(status: int, message: str, code: str | None = None) -> tuple[int, dict[str, str], str]:
    return status, {}, json.dumps({"error": {"message": message, "code": code}})


@pytest.mark.parametrize(
    ("answer", "fix"),
    [
        (refusal(404, "The model `m` has been deprecated", "model_not_found"), "no model 'm'"),
        (refusal(410, "Gone"), "no model 'm'"),
        (refusal(400, "The model `m` has been decommissioned"), "no such model"),
        (refusal(400, "Model m does not exist"), "no such model"),
        (refusal(400, "x", "model_deprecated"), "no such model"),
        (refusal(401, "Incorrect API key provided"), "OPENAI_API_KEY"),
        (refusal(400, "API key not valid. Please pass a valid API key."), "OPENAI_API_KEY"),
        (refusal(403, "Country not supported"), "may not use this model"),
        (refusal(402, "Payment required"), "no credit"),
        (refusal(429, "You exceeded your quota", "insufficient_quota"), "no credit"),
        (refusal(400, "Your credit balance is too low to go on"), "no credit"),
    ],
)
def test_it_ends_with_the_first_word_of_it(chat_server: Any, answer: Any, fix: str) -> None:
    chat_server.answer = lambda _: answer
    client = ChatClient(
        "m", base_url=chat_server.url, options=EndpointOptions(concurrency=1, cache=False)
    )
    with pytest.raises(EndpointError, match=fix) as caught:
        ask(client, 50)
    assert len(chat_server.requests) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "The model could not read this text",
        "This model's maximum context length is 8192 tokens",
        "Your text does not exist in a language that the model knows",
    ],
)
def test_a_400_about_one_text_fails_that_text_alone(chat_server: Any, message: str) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return refusal(400, message) if body["messages"][0]["content"] == "q3" else "ok"

    chat_server.answer = answer
    found = ask(ChatClient("m", base_url=chat_server.url), 8)
    assert sorted(found)[:1] == [f"failed: HTTP 400: {message}"]
    assert found.count("ok") == 7


def test_a_403_on_one_text_after_others_went_well_fails_that_text_alone(chat_server: Any) -> None:
    chat_server.answer = lambda _: (
        refusal(403, "flagged by moderation") if len(chat_server.requests) == 3 else "ok"
    )
    client = ChatClient(
        "m", base_url=chat_server.url, options=EndpointOptions(concurrency=1, cache=False)
    )
    assert sorted(ask(client, 6)) == ["failed: HTTP 403: flagged by moderation", *["ok"] * 5]


def test_the_key_is_in_no_error_log_cache_or_repr(
    chat_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in [None, *logging.root.manager.loggerDict]:
        caplog.set_level(logging.DEBUG, logger=name)  # put back after the test
    file = tmp_path / "c.sqlite"
    client = ChatClient(
        "m",
        base_url=chat_server.url,
        options=EndpointOptions(cache=file),
        first_wait=0.0,
        attempts=2,
    )
    seen = [repr(client), repr(client.options), repr(client.endpoint), *ask(client)]
    # Servers and gateways that repeat the key, in every way a call can fail.
    for answer in (refusal(400, f"what is {KEY}?"), refusal(500, f"{KEY} broke"), (500, {}, KEY)):
        chat_server.answer = lambda _, answer=answer: answer
        seen += ask(client, 3)[1:]
    chat_server.answer = lambda _: refusal(401, f"Incorrect API key provided: {KEY}.")
    for call in (client.check, lambda: ask(client, 4)):
        with pytest.raises(UserError) as caught:
            call()
        seen.append(str(caught.value))
        assert "(the key)" in str(caught.value)
    assert any("(the key)" in text for text in seen[:-2])
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"SQLite" in stored
    assert KEY.encode() not in stored
    assert KEY not in "".join(seen)
    assert caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", ["sk-1234 5678", "sk-1234\n5678", "sk-1234é5678", "sk\x001234"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    if "\x00" in key:  # no environment holds it; nor does it reach us
        key = key.replace("\x00", "\x7f")
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="copy it again") as caught:
        find_endpoint("http://127.0.0.1:1/v1")
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        f"https://me:{KEY}@host/v1",
        f"https://{KEY}@host/v1",
        f"https://host/v1?key={KEY}",
        f"https://host/v1#{KEY}",
    ],
)
def test_an_address_with_a_key_in_it_is_refused_without_it(address: str) -> None:
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        find_endpoint(address)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("address", ["http://[::1", "http://", "ftp://host/v1", "host:80"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="http://HOST:PORT/v1"):
        find_endpoint(address)
