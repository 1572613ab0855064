"""The Batch API: half the price, found again after a kill, nothing sent off twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharegptvideo.endpoint import (
    BudgetError,
    ChatClient,
    EndpointError,
    EndpointOptions,
    in_parallel,
)
from sharegptvideo.errors import UserError
from tests.support.batch_server import BatchServer

PRICES = "date: 2026-01-01\nhosts: {127.0.0.1: {m: {prompt: 1000, completion: 2000}}}\n"
# 1,000 prompt tokens at $1,000 a million, 100 answer tokens at $2,000: $1.20, in a batch half.
EACH = 1.2


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as found:
        yield found


def client_of(server: BatchServer, folder: Path, **options: object) -> ChatClient:
    prices = folder / "prices.yaml"
    prices.write_text(PRICES)
    chosen = EndpointOptions(
        cache=folder / "c.sqlite",
        batch_api=True,
        prices=prices,
        **options,  # type: ignore[arg-type]  # a test names what it changes
    )
    return ChatClient("m", base_url=server.url, options=chosen, first_wait=0.01, attempts=3)


def questions(number: int) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"q{n}"}] for n in range(number)]


def answers(client: ChatClient, number: int) -> dict[str, str]:
    async def ask(messages: list[dict[str, str]]) -> str:
        return (await client.complete(messages, max_tokens=100)).text

    found = in_parallel(ask, questions(number), width=4, finish=client.close)
    return {messages[0]["content"]: text for messages, text in found}


def prefetch(client: ChatClient, number: int) -> None:
    client.prefetch(questions(number), max_tokens=100)


def test_answers_come_from_one_batch_at_the_lower_price(
    server: BatchServer, tmp_path: Path
) -> None:
    lines: list[str] = []
    client = client_of(server, tmp_path, report=lines.append)
    prefetch(client, 20)
    assert len(server.batches) == 1
    assert len(server.direct) == 1  # the first goes ahead: it shows what the server refuses
    assert client.options.budget.spent == pytest.approx(EACH + 19 * EACH / 2)
    assert answers(client, 20) == {"q0": "direct"} | {f"q{n}": f"on q{n}" for n in range(1, 20)}
    assert len(server.direct) == 1
    assert client.options.budget.cached == 20
    assert lines[0] == "batch batch_0: 19 requests sent"
    assert lines[-1] == "batch batch_0: 19 answers, 0 none"
    prefetch(client, 20)
    assert len(server.batches) == 1


def test_what_a_batch_could_not_answer_is_asked_directly(
    server: BatchServer, tmp_path: Path
) -> None:
    server.refuse = lambda body: body["messages"][0]["content"] == "q3"
    client = client_of(server, tmp_path)
    prefetch(client, 6)
    assert answers(client, 6)["q3"] == "direct"
    assert [body["messages"][0]["content"] for body in server.direct] == ["q0", "q3"]


def test_what_is_no_answer_in_a_batch_is_not_kept(server: BatchServer, tmp_path: Path) -> None:
    """It is read as a reply that comes directly is, and paid for."""
    server.finish = lambda body: "length" if body["messages"][0]["content"] == "q3" else "stop"
    lines: list[str] = []
    client = client_of(server, tmp_path, report=lines.append)
    prefetch(client, 6)
    assert lines[-1] == "batch batch_0: 4 answers, 1 none"
    assert client.options.budget.spent == pytest.approx(EACH + 5 * EACH / 2)
    assert answers(client, 6)["q3"] == "direct"


@pytest.mark.parametrize("when", ["before the id was written", "while it was waited for"])
def test_a_killed_run_finds_its_batch_again(server: BatchServer, tmp_path: Path, when: str) -> None:
    class KilledError(BaseException):
        pass

    def die(line: str) -> None:
        if line.endswith("done"):  # the first look at the batch
            raise KilledError

    client = client_of(server, tmp_path, report=die)
    with pytest.raises(KilledError):
        prefetch(client, 8)
    assert len(server.batches) == 1
    if when == "before the id was written":
        cache = client._cache
        assert cache is not None
        (batch,) = cache.batches(client.endpoint.base_url)
        batch.id = None
        cache.keep_batch(client.endpoint.base_url, batch)
    again = client_of(server, tmp_path)
    prefetch(again, 8)
    assert len(server.batches) == 1
    assert answers(again, 8)["q7"] == "on q7"
    assert len(server.direct) == 1
    assert again.options.budget.spent == pytest.approx(7 * EACH / 2)


def test_a_batch_that_was_made_while_the_line_broke_is_not_made_twice(
    server: BatchServer, tmp_path: Path
) -> None:
    server.cut_after_create = 1
    client = client_of(server, tmp_path)
    prefetch(client, 5)
    assert len(server.batches) == 1
    assert answers(client, 5)["q4"] == "on q4"


def test_an_expired_batch_keeps_its_answers_and_the_next_run_sends_the_rest(
    server: BatchServer, tmp_path: Path
) -> None:
    server.outcome, server.answered = "expired", 4
    client = client_of(server, tmp_path)
    with pytest.raises(EndpointError, match="batch_0 expired: 4 answers are kept, 5 are missing"):
        prefetch(client, 10)
    assert client.options.budget.spent == pytest.approx(EACH + 4 * EACH / 2)
    server.outcome, server.answered = "completed", None
    again = client_of(server, tmp_path)
    prefetch(again, 10)
    sent = [
        server.files[batch["input_file_id"]].count("custom_id") for batch in server.batches.values()
    ]
    assert sent == [9, 4]  # one of the five goes ahead again
    assert len(answers(again, 10)) == 10


def test_a_refused_batch_says_why(server: BatchServer, tmp_path: Path) -> None:
    server.outcome, server.answered = "failed", 0
    with pytest.raises(EndpointError, match="this model takes none") as caught:
        prefetch(client_of(server, tmp_path), 3)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_an_endpoint_without_batches_says_so(chat_server: object, tmp_path: Path) -> None:
    url = chat_server.url  # type: ignore[attr-defined]  # a fixture's class, which tests cannot import
    options = EndpointOptions(cache=tmp_path / "c.sqlite", batch_api=True)
    client = ChatClient("m", base_url=url, options=options, first_wait=0.01, attempts=2)
    with pytest.raises(EndpointError, match="takes no batch"):
        prefetch(client, 3)


def test_batches_stay_below_the_limit_of_money(server: BatchServer, tmp_path: Path) -> None:
    # The most that one can cost in a batch: (2 bytes + 8) and 100 tokens, so $0.105; directly
    # $0.21. They cost more than that here ($1.20), as a server would that counts otherwise.
    client = client_of(server, tmp_path, max_cost=1.9)
    with pytest.raises(BudgetError, match="--max-cost"):
        prefetch(client, 30)
    sizes = [server.files[b["input_file_id"]].count("custom_id") for b in server.batches.values()]
    assert sizes == [6]  # $1.20 are spent by the first: 0.70 / 0.105
    assert client.options.budget.requests == 7


def test_batches_need_the_cache() -> None:
    with pytest.raises(UserError, match="remove --no-cache"):
        EndpointOptions(cache=False, batch_api=True)


def test_without_the_option_nothing_is_fetched(server: BatchServer, tmp_path: Path) -> None:
    client = ChatClient("m", base_url=server.url, options=EndpointOptions(cache=tmp_path / "c"))
    prefetch(client, 3)
    assert server.direct == []
    assert server.batches == {}
    asyncio.run(client.close())
