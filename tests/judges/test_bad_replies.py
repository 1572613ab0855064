"""What judges answer when they go wrong: repaired once, else unscored, and never guessed at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.endpoint import ChatClient
from sharegptvideo.judges import JudgeItem, Verdict
from sharegptvideo.judges.llm import OpenAIJudge

ITEM = JudgeItem("1", "t", "v", "What is it?", "a dog", "A dog.", "A dog runs.")
GOOD = '{"explanation": "right", "score": 4}'
BAD = {
    "French": "La réponse est correcte. Note : 4.",
    "Markdown": "## Verdict\n\n**Score:** 4\n\n- right",
    "Markdown around it": 'Here it is:\n```json\n{"explanation": "e", "score": 4}\n```\nDone.',
    "two scores": '{"explanation": "2", "score": 2}\n{"explanation": "5", "score": 5}',
    "one score twice": '{"explanation": "e", "score": 2, "score": 5}',
    "4.8": '{"explanation": "e", "score": 4.8}',
    "4.0": '{"explanation": "e", "score": 4.0}',
    "a word": '{"explanation": "e", "score": "four"}',
    "half a pair": '{"explanation": "\ud800", "score": 9}',
    "controls": "\x00\x1b[2K{}",
    "a yes": "Yes, the answer is right.",
    "a list": "[4]",
    "no score": '{"explanation": "e"}',
    "out of range": '{"explanation": "e", "score": 7}',
    "true": '{"explanation": "e", "score": true}',
}


def verdict_of(server: Any, replies: Callable[[dict[str, Any]], str]) -> Verdict:
    server.answer = replies
    client = ChatClient("m", base_url=server.url, first_wait=0.01)
    (verdict,) = OpenAIJudge("m", client=client).judge([ITEM])
    return verdict


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_repaired_once_and_marked(chat_server: Any, kind: str) -> None:
    verdict = verdict_of(
        chat_server, lambda body: BAD[kind] if len(body["messages"]) == 2 else GOOD
    )
    assert (verdict.status, verdict.score, verdict.correct) == ("scored", 4.0, True)
    assert verdict.repaired is True
    assert verdict.reply == f"{BAD[kind]}\n---\n{GOOD}"
    turns = chat_server.requests[1]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[2]["content"]  # servers refuse a turn without text
    assert "cannot be used" in turns[3]["content"]


@pytest.mark.parametrize("kind", BAD)
def test_two_bad_replies_are_no_verdict(chat_server: Any, kind: str) -> None:
    verdict = verdict_of(chat_server, lambda _: BAD[kind])
    assert (verdict.status, verdict.score, verdict.correct) == ("unscored", None, None)
    assert verdict.repaired is False
    assert verdict.reason is not None
    assert verdict.reason.startswith("the reply cannot be read: ")
    assert verdict.reason.isprintable()
    assert verdict.reply == f"{BAD[kind]}\n---\n{BAD[kind]}"
    assert len(chat_server.requests) == 2  # asked for once more, and then no more


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ("", "an empty answer"),
        (" \n ", "an empty answer"),
        ("<think>I would give it a 4.", "reasoning and no answer"),
    ],
)
def test_no_answer_is_repaired_once_and_asked_for_again_by_the_next_run(
    chat_server: Any, reply: str, cause: str
) -> None:
    verdict = verdict_of(chat_server, lambda body: reply if len(body["messages"]) == 2 else GOOD)
    assert (verdict.score, verdict.repaired, verdict.tokens) == (4.0, True, 20)
    verdict = verdict_of(chat_server, lambda _: reply)
    assert (verdict.status, verdict.reply, verdict.tokens) == ("unscored", None, 20)
    assert cause in (verdict.reason or "")


def test_a_good_reply_is_not_marked(chat_server: Any) -> None:
    assert verdict_of(chat_server, lambda _: GOOD).repaired is False


def test_a_long_bad_reply_is_quoted_in_part(chat_server: Any) -> None:
    verdict = verdict_of(
        chat_server, lambda body: "blah " * 20_000 if len(body["messages"]) == 2 else GOOD
    )
    assert verdict.repaired
    assert len(chat_server.requests[1]["messages"][2]["content"]) == 4000


def _judge(server: Any, release: Any, tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    answers = [{"id": f"{clip}_{n}", "prediction": "red"} for clip in "abc" for n in (0, 1)]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    command = [
        "eval", "judge", "--predictions", str(tmp_path / "answers.jsonl"), "--task", "msvd_qa",
        "--judge", "openai:m", "--data-dir", str(release.folder), "--out", str(tmp_path / "run"),
        "--base-url", server.url,
    ]  # fmt: skip
    ran = CliRunner().invoke(app, command)
    return ran, read_json(tmp_path / "run" / "results.json")["tasks"]["msvd_qa"]


def test_a_base_model_that_babbles_gives_no_accuracy_and_an_error(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    chat_server.models = ["m"]
    chat_server.answer = lambda _: "the the score of of 4 5 3 answer is is yes yes no and and"
    ran, figures = _judge(chat_server, small_release, tmp_path)
    assert ran.exit_code == 1
    assert "error: the judge gave no verdict; the causes are in" in ran.stderr
    assert "6 unscored: the reply cannot be read: it is not one JSON object" in ran.stderr
    assert figures["coverage"] == 0
    assert figures["accuracy"]["value"] is None
    assert figures["accuracy_bounds"] == [0, 1]
    assert (figures["n_scored"], figures["n_unscored"]) == (0, 6)
    rows = [row for _, row in read_jsonl(tmp_path / "run" / "judgements.jsonl")]
    assert all("the the score" in row["reply"] for row in rows)
    asked = len(chat_server.requests)
    ran, again = _judge(chat_server, small_release, tmp_path)
    assert (ran.exit_code, again) == (1, figures)
    assert len(chat_server.requests) == asked  # what it said is kept, not paid for again


def test_one_verdict_is_enough_for_figures(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    chat_server.models = ["m"]
    chat_server.answer = lambda body: (
        GOOD if "Is it red" in json.dumps(body) and "is green" in json.dumps(body) else "Bof."
    )
    ran, figures = _judge(chat_server, small_release, tmp_path)
    assert ran.exit_code == 0
    assert (figures["n_scored"], figures["n_unscored"]) == (1, 5)
    assert figures["coverage"] == pytest.approx(1 / 6)
    assert figures["accuracy_bounds"] == [pytest.approx(1 / 6), 1]


def test_repaired_verdicts_are_counted(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    chat_server.models = ["m"]
    chat_server.answer = lambda body: (
        "Note : 4" if len(body["messages"]) == 2 and "Is it red" in json.dumps(body) else GOOD
    )
    ran, figures = _judge(chat_server, small_release, tmp_path)
    assert ran.exit_code == 0
    assert figures["n_repaired"] == 3
    rows = [row for _, row in read_jsonl(tmp_path / "run" / "judgements.jsonl")]
    assert sum(row["repaired"] for row in rows) == 3
