"""The client at a real small language model on loopback: transport, tokens, schemas."""

from __future__ import annotations

import json
from typing import Any

from sharegptvideo.endpoint import ChatClient, Reply, in_parallel
from sharegptvideo.endpoint.messages import NoAnswerError
from tests.support.smollm import MODEL

SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string", "maxLength": 40}, "score": {"enum": [1, 2, 3]}},
    "required": ["question", "score"],
    "additionalProperties": False,
}


def ask(client: ChatClient, texts: list[str], **options: Any) -> list[Reply]:
    async def call(text: str) -> Reply:
        try:
            return await client.complete([{"role": "user", "content": text}], **options)
        except NoAnswerError as error:  # cut off at the limit of tokens, mostly
            return error.reply

    done = dict(in_parallel(call, texts, width=4, finish=client.close))
    return [done[text] for text in texts]


def test_answers_with_their_tokens(smollm_url: str) -> None:
    client = ChatClient(MODEL, base_url=smollm_url)
    client.check()
    short, long = ask(
        client, ["Name a color.", "Name a color. " * 20], temperature=1.0, seed=3, max_tokens=12
    )
    for reply in (short, long):
        assert reply.text
        assert reply.model == MODEL
        assert 0 < reply.completion_tokens <= 12
        assert reply.tokens > reply.completion_tokens
    # Three tokens and a mark each time, by the model's own count.
    assert long.tokens - short.tokens > 19 * 3


def test_same_seed_same_answer(smollm_url: str) -> None:
    texts = [f"Tell me about the number {n}." for n in range(2)]
    options: dict[str, Any] = {"temperature": 1.0, "seed": 7, "max_tokens": 8}
    first = ask(ChatClient(MODEL, base_url=smollm_url), texts, **options)
    again = ask(ChatClient(MODEL, base_url=smollm_url), texts[::-1], **options)[::-1]
    assert [reply.text for reply in first] == [reply.text for reply in again]
    other = ask(ChatClient(MODEL, base_url=smollm_url), texts, **options | {"seed": 8})
    assert [reply.text for reply in first] != [reply.text for reply in other]


def test_a_schema_is_kept_to(smollm_url: str) -> None:
    client = ChatClient(MODEL, base_url=smollm_url)
    form = {"type": "json_schema", "json_schema": {"name": "q", "schema": SCHEMA}}
    (reply,) = ask(client, ["Ask about a ball."], response_format=form, max_tokens=60)
    said = json.loads(reply.text)
    assert said.keys() == {"question", "score"}
    assert said["score"] in {1, 2, 3}
