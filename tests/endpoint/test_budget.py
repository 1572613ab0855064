"""Prices, estimates, the limit of money: never crossed, and nothing that was paid for is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.endpoint import BudgetError, ChatClient, EndpointOptions, Estimate, in_parallel
from sharegptvideo.endpoint.budget import find_price
from sharegptvideo.errors import UserError

OPENAI = "https://api.openai.com/v1"
# A dollar a token makes every sum plain.
DOLLARS = "date: 2026-01-02\nhosts: {127.0.0.1: {m: {prompt: 1000000, completion: 1000000}}}\n"


def options(folder: Path, **chosen: Any) -> EndpointOptions:
    (folder / "prices.yaml").write_text(DOLLARS)
    given: dict[str, Any] = {"prices": folder / "prices.yaml", "cache": False}
    return EndpointOptions(**given | chosen)


def run(client: ChatClient, number: int, answered: list[str]) -> None:
    async def ask(n: int) -> str:
        reply = await client.complete([{"role": "user", "content": f"q{n:04}"}], max_tokens=20)
        return reply.text

    for _, text in in_parallel(ask, range(number), width=client.width, finish=client.close):
        answered.append(text)


def test_the_longest_name_that_fits_counts() -> None:
    mini, dated, full = (
        find_price(OPENAI, name) for name in ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-4o")
    )
    assert mini is not None
    assert dated == mini
    assert full is not None
    assert full.prompt > mini.prompt
    assert mini.of(1e6, 0) == pytest.approx(0.15)
    assert mini.of(0, 1e6, batch=True) == pytest.approx(0.30)
    assert find_price(OPENAI, "no-such-model") is None
    assert find_price("https://elsewhere.example/v1", "gpt-4o") is None


def test_ones_own_server_costs_nothing() -> None:
    for url in ("http://localhost:8000/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1"):
        price = find_price(url, "anything")
        assert price is not None
        assert price.of(1e9, 1e9) == 0


def test_a_file_of_ones_own_goes_before(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "date: 2026-05-01\nhosts: {api.openai.com: {gpt-4o: {prompt: 7, completion: 8}}}"
    )
    price = find_price(OPENAI, "gpt-4o", file)
    assert price is not None
    assert (price.of(1e6, 1e6), price.date) == (15, "2026-05-01")
    assert find_price(OPENAI, "gpt-4o-mini", file) == find_price(OPENAI, "gpt-4o-mini")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("date: 2026-05-01\nhosts: {h: {m: {prompt: 1}}}", "hosts.h.m.completion: Field required"),
        ("date: 2026-05-01\nhosts: {h: {m: {prompt: -1, completion: 1}}}", "greater than"),
        (
            "date: 2026-05-01\nhosts: {h: {m: {prompt: .nan, completion: 1}}}",
            "no number that can be used",
        ),
        ("date: 2026-05-01\nhosts: {h: {m: {prompt: yes, completion: 1}}}", "must be a number"),
        ("date: 2026-05-01\nbatch: on\nhosts: {}", "batch: .*must be a number"),
        ("date: 2026-05-01\nhosts: {}\nhosts: {}", "the key hosts stands twice"),
        ("date: 2026-05-01\nhosts: {}\nhost: {}", "host: Extra inputs"),
        ("hosts: {}", "date: Field required"),
        ("[1, 2]", "the file: "),
        ("a: [", "not YAML"),
    ],
)
def test_a_price_table_that_is_none_says_where(tmp_path: Path, text: str, cause: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=cause) as caught:
        find_price(OPENAI, "m", file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_missing_price_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name another file as --prices"):
        find_price(OPENAI, "m", tmp_path / "none.yaml")


def test_a_limit_without_a_price_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    client = ChatClient("mine", base_url=OPENAI, options=EndpointOptions(max_cost=1, cache=False))
    with pytest.raises(UserError, match=r"needs a price for 'mine' at api\.openai") as refused:
        client.check()
    # The entry that the error gives is one that works.
    (entry,) = re.findall(r"hosts: \{.*\}", str(refused.value))
    (tmp_path / "own.yaml").write_text(f"date: 2026-05-01\n{entry}\n")
    price = find_price(OPENAI, "mine", tmp_path / "own.yaml")
    assert price is not None
    assert price.of(1e6, 1e6) == 3


def test_what_was_spent_is_what_the_server_counted(chat_server: Any, tmp_path: Path) -> None:
    chosen = options(tmp_path)
    run(ChatClient("m", base_url=chat_server.url, options=chosen), 5, [])
    assert (chosen.budget.spent, chosen.budget.tokens, chosen.budget.requests) == (50, 50, 5)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_limit_is_never_crossed_and_all_that_was_paid_for_comes_out(
    chat_server: Any, tmp_path: Path, concurrency: int
) -> None:
    # A call costs $10, and could cost 5 bytes + 8 + 20 tokens = $33: at $167 and less one can go.
    chosen = options(tmp_path, max_cost=200, concurrency=concurrency)
    answered: list[str] = []
    with pytest.raises(BudgetError, match=r"before --max-cost \$200.00: \$170.00 spent") as caught:
        run(ChatClient("m", base_url=chat_server.url, options=chosen), 1000, answered)
    assert caught.value.exit_code == 1
    assert len(answered) == len(chat_server.requests) == 17
    assert chosen.budget.spent == 170


def test_the_limit_holds_for_all_clients_of_the_same_options(
    chat_server: Any, tmp_path: Path
) -> None:
    chosen = options(tmp_path, max_cost=100)
    run(ChatClient("m", base_url=chat_server.url, options=chosen), 5, [])
    with pytest.raises(BudgetError):
        run(ChatClient("m", base_url=chat_server.url, options=chosen), 5, [])
    assert chosen.budget.spent <= 100


def test_failed_calls_cost_nothing_and_cut_ones_what_was_asked(
    chat_server: Any, tmp_path: Path
) -> None:
    chosen = options(tmp_path)
    client = ChatClient("m", base_url=chat_server.url, options=chosen, first_wait=0.0)
    chat_server.answer = lambda _: (500, {}, "{}") if len(chat_server.requests) < 3 else "ok"
    run(client, 1, [])
    assert chosen.budget.spent == 10
    # A connection that broke may have been billed: 5 bytes / 4 + 8 tokens of a prompt.
    chat_server.answer = lambda _: None if len(chat_server.requests) < 5 else "ok"
    run(client, 1, [])
    assert chosen.budget.spent == pytest.approx(20 + 9.25)


def test_a_server_that_counts_nothing_is_counted_for(chat_server: Any, tmp_path: Path) -> None:
    message = {"role": "assistant", "content": "four" * 4}
    bare = json.dumps({"choices": [{"index": 0, "message": message}]})
    chat_server.answer = lambda _: (200, {}, bare)
    chosen = options(tmp_path)
    run(ChatClient("m", base_url=chat_server.url, options=chosen), 1, [])
    assert chosen.budget.spent == pytest.approx(9.25 + 4)


def test_an_estimate_leaves_out_what_is_in_the_cache(chat_server: Any, tmp_path: Path) -> None:
    kept = {"cache": tmp_path / "c"}
    run(ChatClient("m", base_url=chat_server.url, options=options(tmp_path, **kept)), 3, [])
    slow = options(tmp_path, concurrency=4, rpm=6, **kept)
    client = ChatClient("m", base_url=chat_server.url, options=slow)
    texts = [[{"role": "user", "content": f"q{n:04}"}] for n in range(5)]
    found = client.estimate(texts, max_tokens=20)
    # Each: 5 bytes / 4 + 8 tokens, and 20 of the answer; 2 at 6 a minute.
    assert found == Estimate(2, 3, 58.5, 58.5, 20.0, "2026-01-02")
    assert str(found + Estimate()) == (
        "2 requests (3 more are in the cache), about 58 tokens,"
        " about $58.50 at prices of 2026-01-02, about 20 s"
    )
    assert len(chat_server.requests) == 3


def test_pictures_count_in_an_estimate(tmp_path: Path) -> None:
    client = ChatClient("m", base_url="http://127.0.0.1:1/v1", options=options(tmp_path))
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}
    content = [picture, picture, {"type": "text", "text": "four"}]
    found = client.estimate([[{"role": "user", "content": content}]], max_tokens=10)
    assert found.tokens == 2 * 1600 + 1 + 8 + 10


def test_who_is_asked_before_much_is_spent() -> None:
    much = Estimate(10, 0, 1e6, 5.0, 60.0, "2026-01-02")
    lines: list[str] = []
    asked: list[str] = []

    def say(answer: bool) -> Any:
        def confirm(question: str) -> bool:
            asked.append(question)
            return answer

        return confirm

    def chosen(**given: Any) -> EndpointOptions:
        return EndpointOptions(cache=False, report=lines.append, **given)

    chosen().approve(much)
    chosen(max_cost=6).approve(much)
    chosen(max_cost=1).approve(Estimate(0, 10, 0.0, 0.0, 0.0))
    assert asked == []
    assert len(lines) == 2
    chosen(max_cost=4, confirm=say(True)).approve(much)
    with pytest.raises(UserError, match="not confirmed") as caught:
        chosen(max_cost=4, confirm=say(False)).approve(much)
    assert caught.value.exit_code == 1
    assert all("about $5.00" in line and "--max-cost $4.00" in line for line in asked)
    with pytest.raises(UserError, match="--yes"):
        chosen(max_cost=4).approve(much)


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"rpm": 0},
        {"rpm": -1},
        {"tpm": float("nan")},
        {"max_cost": float("inf")},
        {"max_cost": -1},
    ],
)
def test_options_that_are_no_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must be"):
        EndpointOptions(**wrong)
    assert EndpointOptions(max_cost=0).max_cost == 0
