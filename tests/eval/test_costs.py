"""What a run will cost is printed first, and a limit of money leaves a run that goes on later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_jsonl, write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.endpoint import BudgetError, EndpointOptions
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions

QUESTIONS = 40
# The server counts 3 tokens of an answer: $0.003 a call. It may be 2,048: $2.048 at the most.
PRICES = "date: 2026-01-02\nhosts: {127.0.0.1: {j: {prompt: 0, completion: 1000}}}\n"


@pytest.fixture
def judged(chat_server: Any, tmp_path: Path) -> Any:
    """Runs `eval judge` in Python on questions with answers."""
    rows = [
        {
            "id": n,
            "video_id": n % 5,
            "question": f"what is {n}?",
            "answer": "x",
            "category_id": 1,
        }
        for n in range(QUESTIONS)
    ]
    write_json(tmp_path / "msrvtt_qa_test_qa.json", rows)
    write_jsonl(
        tmp_path / "p.jsonl", [{"id": str(n), "prediction": f"a {n}"} for n in range(QUESTIONS)]
    )
    (tmp_path / "prices.yaml").write_text(PRICES)
    chat_server.models = ["j"]
    chat_server.answer = lambda _: '{"correct": "yes", "score": 5}'

    def run(out: str, **options: Any) -> Any:
        given: dict[str, Any] = {"prices": tmp_path / "prices.yaml", "cache": False}
        return judge_predictions(
            tmp_path / "p.jsonl",
            ["msrvtt_qa_official"],
            "openai:j",
            tmp_path / out,
            data_dir=tmp_path,
            base_url=chat_server.url,
            endpoint=EndpointOptions(**given | options),
        )

    return run


def test_more_than_the_limit_is_refused_before_anything_is_asked(
    judged: Any, chat_server: Any
) -> None:
    reported: list[str] = []
    with pytest.raises(UserError, match=r"40 requests.* above --max-cost \$1.00.*--yes"):
        judged("run", max_cost=1, report=reported.append)
    assert len(chat_server.requests) == 0
    assert reported[0].startswith("ahead: 40 requests, about ")


def test_the_limit_keeps_what_was_paid_for_and_the_next_sitting_goes_on(
    judged: Any, chat_server: Any, tmp_path: Path
) -> None:
    # $0.052 more than one call may cost: after 17 calls, one more fits, and no 19th.
    with pytest.raises(BudgetError, match="all answers that were paid for are kept"):
        judged("run", max_cost=2.1, confirm=lambda _: True)
    kept = len(list(read_jsonl(tmp_path / "run" / "judgements.jsonl")))
    assert kept == 18
    assert len(chat_server.requests) == kept
    reported: list[str] = []
    results = judged("run", report=reported.append)
    assert reported[0].startswith(f"ahead: {QUESTIONS - kept} requests, ")
    assert results["tasks"]["msrvtt_qa_official"]["n_scored"] == QUESTIONS
    assert len(chat_server.requests) == QUESTIONS


def test_another_run_finds_the_answers_in_the_cache(
    judged: Any, chat_server: Any, tmp_path: Path
) -> None:
    reported: list[str] = []
    first = judged("one", cache=tmp_path / "c")
    second = judged("two", cache=tmp_path / "c", max_cost=0, report=reported.append)
    assert first["tasks"] == second["tasks"]
    assert len(chat_server.requests) == QUESTIONS
    assert reported == []


def test_the_options_of_the_command_reach_the_endpoint(
    judged: Any, chat_server: Any, tmp_path: Path
) -> None:
    del judged  # it has laid out the files
    command = ["eval", "judge", "--predictions", str(tmp_path / "p.jsonl"), "--judge", "openai:j"]
    command += ["--task", "msrvtt_qa_official", "--data-dir", str(tmp_path)]
    command += ["--base-url", chat_server.url, "--prices", str(tmp_path / "prices.yaml")]
    runner = CliRunner()
    refused = runner.invoke(app, [*command, "--out", str(tmp_path / "r"), "--max-cost", "1"])
    assert refused.exit_code == 2
    assert "--yes" in refused.output
    for options in (["--rpm", "0"], ["--no-cache", "--batch-api"], ["--max-cost", "-1"]):
        wrong = runner.invoke(app, [*command, "--out", str(tmp_path / "r"), *options])
        assert wrong.exit_code == 2
        assert wrong.output.startswith("error: ")
    assert len(chat_server.requests) == 0
    for run in ("r", "again"):
        done = runner.invoke(app, [*command, "--out", str(tmp_path / run), "--concurrency", "3"])
        assert done.exit_code == 0, done.output
    assert len(chat_server.requests) == QUESTIONS
    assert chat_server.most_at_once <= 3
