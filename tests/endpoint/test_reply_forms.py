"""The forms in which servers reply: each is the right answer, or one failure that says why."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from sharegptvideo.endpoint import ChatClient, EndpointError
from sharegptvideo.endpoint.messages import parse_reply, read_reply, split_reasoning
from sharegptvideo.endpoint.server_errors import (
    NoCompletionError,
    ReplyTooLargeError,
    ServerSaidError,
)
from tests.endpoint.test_replies import HEAD, ask, completion, raw_server


def said(content: Any = None, **choice: Any) -> dict[str, Any]:
    """A completion whose message has a content and nothing else."""
    return completion({"role": "assistant", "content": content}, **choice)


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [fields]}


GREY = said("grey")
PACKED = json.dumps(GREY).encode()
TOOL = [{"function": {"name": "f", "arguments": "{}"}}]
CUT, WITHHELD, EMPTY = "cut off at the limit", "withheld by the endpoint's", "an empty answer"

BODIES: list[tuple[Any, str]] = [
    # vLLM and SGLang
    (completion({"content": "grey", "reasoning": "hm", "reasoning_content": None}), "grey"),
    (completion({"content": None, "reasoning_content": "hm"}, finish_reason="length"), CUT),
    (completion({"content": None, "reasoning": "hm"}), "reasoning and no answer"),
    (completion({"content": "grey", "tool_calls": [], "refusal": None}), "grey"),
    (said("grey", finish_reason="repetition"), "ended for another reason"),
    (said("grey", finish_reason="abort"), "broke off the answer"),
    ({"object": "error", "message": "busy", "type": "ServiceUnavailable", "code": 503}, "503 busy"),
    # Google's endpoint in OpenAI's form, and its own form
    (choice(finish_reason="length", index=0, message={"role": "assistant"}), CUT),
    (choice(finish_reason="content_filter", index=0), WITHHELD),
    (choice(finish_reason="content_filter: SAFETY", message=None), WITHHELD),
    ({"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, WITHHELD),
    ({"promptFeedback": {"blockReason": "OTHER"}}, WITHHELD),
    (said("gr", finish_reason="IMAGE_SAFETY"), WITHHELD),
    (said("gr", finish_reason="RECITATION"), WITHHELD),
    (said("gr", finish_reason="MALFORMED_FUNCTION_CALL"), "MALFORMED_FUNCTION_CALL"),
    (said("gr", finish_reason="FinishReason.STOP"), "gr"),
    ([{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}], "429 Quota"),
    ({"candidates": [{"finishReason": "STOP"}]}, "it has candidates); check that --base-url"),
    # Anthropic's words, by way of proxies
    (said([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "grey"}]), "grey"),
    (said([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "grey"}]), "grey"),
    (said("grey", finish_reason="end_turn"), "grey"),
    (said("", finish_reason="refusal"), WITHHELD),
    (said("gr", finish_reason="model_context_window_exceeded"), CUT),
    (said("gr", finish_reason="pause_turn"), "pause_turn"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Full"}}, "503 Full"),
    ({"type": "message", "content": [{"type": "text", "text": "grey"}]}, "it has type, content"),
    # Azure and Bedrock
    (
        choice(
            finish_reason="content_filter",
            message={"role": "assistant"},
            content_filter_results={"hate": {"filtered": True}},
        ),
        WITHHELD,
    ),
    (said("grey", content_filter_results={"error": {"code": "content_filter_error"}}), "grey"),
    (said("gr", finish_reason="guardrail_intervened"), WITHHELD),
    # OpenRouter
    (said("", finish_reason="error", error={"code": 502, "message": "Upstream"}), "502 Upstream"),
    (choice(finish_reason=None, error={"code": 429, "message": "Slow"}), "429 Slow"),
    (completion({"content": "grey", "reasoning_details": [{"data": "z"}]}), "grey"),
    (b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + PACKED, "grey"),
    # DeepSeek, Mistral, Groq, Cohere, Zhipu, DashScope, Hugging Face, Baidu
    (b"\n\n  \n\n" + PACKED, "grey"),
    (said("gr", finish_reason="insufficient_system_resource"), "broke off the answer"),
    (said("gr", finish_reason="model_length"), CUT),
    (said("gr", finish_reason="error"), "broke off the answer"),
    (said([{"type": "text", "text": "gr"}, {"type": "text", "text": "ey"}]), "grey"),
    (said("grey", finish_reason="COMPLETE"), "grey"),
    (said("gr", finish_reason="sensitive"), WITHHELD),
    ({"code": "Throttling", "message": "Requests throttled"}, "429 Requests throttled"),
    ({"error": "Model is loading", "estimated_time": 20.0}, "500 Model is loading"),
    ({"error_code": 17, "error_msg": "Daily request limit reached"}, "429 Daily request limit"),
    # Ollama and llama.cpp, asked at another path
    (
        {"message": {"content": "grey"}, "done": True},
        "it has message, done); check that --base-url",
    ),
    ({"content": "grey", "stop": True}, "it has content, stop); check that --base-url"),
    (choice(text="grey", finish_reason="stop"), "no message in its choices"),
    # What is no answer
    (said(""), EMPTY),
    (said(None, finish_reason=None), EMPTY),
    (said("\u200b\ufeff"), EMPTY),
    (said("<|im_end|>"), EMPTY),
    (said("grey</s>\n"), "grey"),
    (said(5), "the answer is 5 and not a text"),
    (said({"score": 4}), "the answer is {'score': 4} and not a text"),
    (completion({"content": None, "tool_calls": TOOL}), "called a tool"),
    (completion({"content": "", "function_call": {}}, finish_reason="function_call"), "function_c"),
    (completion({"content": None, "refusal": "I cannot."}), "the model refused: I cannot."),
    ({"choices": []}, "no message in its choices"),
    ({"choices": None}, "no message in its choices"),
    ({"choices": {"0": {"message": {"content": "grey"}}}}, "no message in its choices"),
    (choice(finish_reason="stop", message="grey"), "no message in its choices"),
    (choice(finish_reason="stop", delta={"content": "grey"}), "no message in its choices"),
    (GREY | {"error": None, "errors": []}, "grey"),
    (GREY | {"error": {"code": 0, "message": ""}}, "grey"),
    (GREY | {"usage": {"total_tokens": "12", "completion_tokens": True}}, "grey"),
    # Bytes
    (b"\xef\xbb\xbf" + PACKED, "grey"),
    (json.dumps(GREY).encode("utf-16"), "grey"),
    (PACKED.replace(b"}]}", b'}], "usage": {"total_tokens": NaN}}'), "grey"),
    (PACKED.replace(b'"grey"', b'"red", "content": "grey"'), 'the key "content" stands twice'),
    (PACKED[:-9], "no JSON, or cut short"),
    (b'{"n": ' + b"9" * 9000 + b"}", "no JSON, or cut short"),
    (b"", "it is empty"),
    (b"null", "no JSON object"),
    (b"\xff\xfe\xff", "no JSON, or cut short"),
    (b'data: {"choices": []}\n\ndata: [DONE]\n\n', "turn streaming off"),
    (b"<!DOCTYPE html><title>Log in</title>", "a web page; check --base-url"),
    (b"[" * 200_000, "nested too deeply"),
]


@pytest.mark.parametrize(("body", "outcome"), BODIES)
def test_a_body_is_an_answer_or_one_clear_failure(body: Any, outcome: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        reply = read_reply(parse_reply(content), "m")
    except ServerSaidError as error:
        words = f"{error.status} {error.error.get('message')}"
    except (NoCompletionError, ReplyTooLargeError) as error:
        words = str(error)
    else:
        words = reply.failure or reply.text
        assert (reply.failure is None) == (words in ("grey", "gr"))
    assert outcome == words if outcome in ("grey", "gr") else outcome in words
    assert "\n" not in words


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("analysisRed? No.assistantfinalgrey", "grey", "Red? No."),
        ("<|channel>thought\nRed?<channel|>grey", "grey", "Red?"),
        (
            "<|begin_of_thought|>Red?<|end_of_thought|>\n\n<|begin_of_solution|>grey"
            "<|end_of_solution|>",
            "grey",
            "Red?",
        ),
        ("<think>Red?</think>\n<answer>grey</answer>", "grey", "Red?"),
        ("<thinking>Red?</thinking>grey<|im_end|>", "grey", "Red?"),
        ("[THINK]Red?[/THINK]grey", "grey", "Red?"),
        ("<|START_THINKING|>Red?<|END_THINKING|><|START_RESPONSE|>grey", "grey", "Red?"),
        ("<answer>grey</answer>", "<answer>grey</answer>", None),
        ("analysis of the clip: grey", "analysis of the clip: grey", None),
        ("grey \n", "grey \n", None),
    ],
)
def test_marks_of_models(text: str, answer: str, reasoning: str | None) -> None:
    assert split_reasoning(text) == (answer, reasoning)


def sent(head: bytes, body: bytes = PACKED, *, length: str | None = None) -> bytes:
    # The server closes after each reply, and says so: the next try is not to come this way.
    size = f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode()
    return HEAD + b"Connection: close\r\n" + head + size + body


def chunked(body: bytes, end: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + end


def status(line: bytes, *, head: bytes = b"", body: bytes = b"") -> bytes:
    length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + line + b"\r\n" + head + length + body


def endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


BOMB = gzip.compress(gzip.compress(b" " * (64 << 20), 1))
MOVED = status(b"301 M", head=b"Location: https://new.invalid/v1\r\n")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (sent(b""), "grey"),
        (HEAD + b"Connection: close\r\n\r\n" + PACKED, "grey"),
        (chunked(PACKED), "grey"),
        (sent(b"Content-Encoding: gzip\r\n", gzip.compress(PACKED)), "grey"),
        (sent(b"Content-Encoding: deflate\r\n", zlib.compress(PACKED)), "grey"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + sent(b""), "grey"),
        (sent(b"Content-Encoding: utf-8\r\n"), "grey"),
        (sent(b"Content-Encoding: gzip, gzip\r\n", BOMB), "not the gzip that was asked for"),
        (sent(b"Content-Encoding: br\r\n"), "packed as br, not the gzip that was asked for"),
        (sent(b"Content-Encoding: zstd\r\n"), "packed as zstd, not the gzip that was asked for"),
        (sent(b"Content-Encoding: gzip\r\n", b"no gzip"), "damaged gzip data"),
        (sent(b"", length="9999"), "without sending complete message body"),
        (sent(b"", length="20"), "cut short"),
        (sent(b"", length="many"), "bad Content-Length"),
        (chunked(b'{"a"', b"\r\n"), "without sending complete message body"),
        (endless, "larger than 16"),
        (status(b"204 No Content"), "it is empty"),
        (b"SSH-2.0-OpenSSH_9\r\n", "connection failed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "connection failed"),
        (MOVED, "it has moved to https://new.invalid/v1; fix --base-url"),
        (status(b"302 M"), "it sends calls elsewhere; fix --base-url"),
        (status(b"600 Odd"), "HTTP 600"),
        (status(b"503 S", body=b'{"error": "Model m is loading"}'), "HTTP 503: Model m is loading"),
        (status(b"500 S", body=b'[{"error": {"message": "Odd"}}]'), "HTTP 500: Odd"),
        (status(b"502 S", body=b"<html>Bad</html>"), "HTTP 502"),
        (status(b"422 U", body=b'{"detail": [{"msg": "odd"}]}'), "odd"),
    ],
)
def test_what_comes_over_the_wire_is_an_answer_or_one_clear_failure(
    reply: bytes | Callable[[socket.socket], None], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    send = reply if callable(reply) else lambda connection: connection.sendall(reply)
    with raw_server(send) as url:
        client = ChatClient("m", base_url=url, attempts=2, first_wait=0.0, timeout=30)
        try:
            (result,) = ask(client)
        except EndpointError as error:
            result = error
    assert outcome in getattr(result, "text", str(result))
    assert "\n" not in str(result)
