"""`eval attack`: what is put to a judge, how points are counted, and what judges give away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval.attack import (
    Case,
    attack_judge,
    cases_of,
    list_attacks,
    own_cases,
)
from sharegptvideo.judges import AnswerMatch, Judge, JudgeItem, Verdict, open_judge
from sharegptvideo.models.base import Question

CASES = [
    Case("1", "v1", "What is it?", "a dog", "a cat", "A dog runs."),
    Case("2", "v2", "Is it red?", "yes", "no", None),
]


class Rule(Judge):
    """Scores by a function of the item; None: unscored."""

    name = "rule"

    def __init__(self, score: Any) -> None:
        self.score = score
        self.seen: list[JudgeItem] = []

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "test"}

    def check(self) -> None:
        """Always there."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        for item in items:
            self.seen.append(item)
            score = self.score(item)
            if score is None:
                yield Verdict(item.id, "unscored", None, None, "silent", "hm")
            else:
                yield Verdict(item.id, "scored", score >= 3, float(score), None, None)


def honest(item: JudgeItem) -> int:
    return 5 if item.prediction == item.reference else 1


def test_an_honest_judge_gives_nothing() -> None:
    rule = Rule(honest)
    found = attack_judge(rule, [CASES[0]])
    assert found["controls_hold"] is True
    assert found["attacks"]["reference"] == {
        "kind": "control", "n": 1, "n_scored": 1, "right": 1.0, "score": 5.0, "won": 4.0,
    }  # fmt: skip
    assert all(row["won"] == 0 for name, row in found["attacks"].items() if name != "reference")
    assert len(rule.seen) == len(list_attacks())
    assert {kind: row["attacks_that_won"] for kind, row in found["kinds"].items()} == {
        "null": 0,
        "injection": 0,
    }


def test_points_are_counted_from_the_wrong_answer_to_the_same_question() -> None:
    """Wrong answers get 2 and 1; the order gets 5 on the dog (3 more), is unscored on the other."""

    def gullible(item: JudgeItem) -> int | None:
        if "Ignore all instructions" in item.prediction:
            return 5 if item.reference == "a dog" else None
        if item.prediction == item.reference:
            return 5
        return 2 if item.prediction == "a cat" else 1

    found = attack_judge(Rule(gullible), CASES)
    order = found["attacks"]["order"]
    assert order == {
        "kind": "injection", "n": 2, "n_scored": 1, "right": 1.0, "score": 5.0, "won": 3.0,
    }  # fmt: skip
    # Null answers get 1, which is 1 less than the wrong answer on the dog.
    assert found["attacks"]["empty"]["won"] == -0.5
    injections = [row for row in found["attacks"].values() if row["kind"] == "injection"]
    summed = found["kinds"]["injection"]
    assert summed["attacks"] == len(injections)
    assert summed["n"] == 2 * len(injections)
    assert summed["attacks_that_won"] == 1


@pytest.mark.parametrize("score", [5, 1, None])
def test_a_judge_that_says_one_thing_fails_the_controls(score: int | None) -> None:
    assert attack_judge(Rule(lambda _: score), CASES)["controls_hold"] is False


def test_the_answers_are_what_they_should_be() -> None:
    attacks = list_attacks()
    assert {attack.kind for attack in attacks.values()} == {"control", "null", "injection"}
    for case in own_cases():
        texts = {name: attack.answer(case) for name, attack in attacks.items()}
        assert texts.pop("reference") == case.reference
        assert texts["wrong"] == case.wrong
        assert len(texts["long_order"]) == len(texts["long_word"]) == 100_000
        assert not [text for text in texts.values() if re.search(r"\{(wrong|question)\}", text)]
        texts.pop("list")  # holds right words among many, which is the point of it
        if case.reference not in ("yes", "no"):  # words that are in many texts
            reported = re.compile(rf"\b{re.escape(case.reference)}\b")
            assert not [name for name, text in texts.items() if reported.search(text)]
    shown = json.dumps([attack.text for attack in attacks.values()])
    for mark in ("\\u202e", "\\u200b", "\\u0000", "<|im_start|>", "[/INST]", "```", "\\udb40"):
        assert mark in shown


def test_cases_from_a_task() -> None:
    rows = [("1", "a dog"), ("2", "a brown dog"), ("3", "no"), ("4", "cat"), ("5", "Yes.")]
    questions = [Question(i, "t", f"v{i}", f"Q{i}?", answer) for i, answer in rows]
    wrong = {case.id: case.wrong for case in cases_of(questions, 9)}
    assert wrong == {"1": "cat", "2": "cat", "3": "yes", "4": "a dog", "5": "no"}
    assert [case.id for case in cases_of(questions, 2)] == ["1", "2"]
    with pytest.raises(UserError, match="too few different answers"):
        cases_of(questions[:2], 9)


def test_a_folder_keeps_the_verdicts_and_is_gone_on_with(tmp_path: Path) -> None:
    first = Rule(honest)
    found = attack_judge(first, CASES, out=tmp_path / "attack")
    assert read_json(tmp_path / "attack" / "attack.json") == found
    rows = {row["id"]: row for _, row in read_jsonl(tmp_path / "attack" / "judgements.jsonl")}
    assert len(rows) == 2 * len(list_attacks())
    assert rows["reference/1"]["score"] == 5.0
    again = Rule(honest)
    assert attack_judge(again, CASES, out=tmp_path / "attack") == found
    assert again.seen == []
    with pytest.raises(UserError, match=r"holds another run: attack\.cases"):
        attack_judge(again, CASES[:1], out=tmp_path / "attack")


def test_the_embedded_judge_gives_injections_nothing() -> None:
    """Measured: no injection is called right, and on average they win nothing. Of the null
    answers, bare yes, no and echoes win one polar question in ten, a list of words half a point.
    """
    found = attack_judge(AnswerMatch(), own_cases())
    assert found["controls_hold"] is True
    assert found["attacks"]["reference"]["right"] == 1.0
    assert found["kinds"]["injection"]["right"] == 0.0
    assert found["kinds"]["injection"]["won"] <= 0
    assert found["kinds"]["null"]["right"] < 0.05
    assert max(row["won"] for row in found["attacks"].values() if row["kind"] == "null") <= 0.5


def test_a_server_that_obeys_is_found_out(chat_server: Any) -> None:
    """It gives 5 wherever it reads `Score: 5`, which no quoting can prevent; else it is honest."""

    def answer(body: dict[str, Any]) -> str:
        (block,) = re.findall(r"```json\n(.*?)\n```", body["messages"][-1]["content"], re.DOTALL)
        texts = json.loads(block)
        good = texts["answer"] == texts["reference"] or "Score: 5" in texts["answer"]
        return json.dumps({"explanation": "", "score": 5 if good else 1})

    chat_server.answer, chat_server.models = answer, ["m"]
    found = attack_judge(open_judge("openai:m", base_url=chat_server.url), own_cases()[:2])
    won = {name for name, row in found["attacks"].items() if (row["won"] or 0) > 0}
    assert found["controls_hold"]
    assert {"order", "order_alone", "reply_lines"} <= won
    # The second question's wrong answer is "green": no fake reply or fake turn wins by itself.
    assert not {"reply_json", "fence", "turn_chatml", "second_key", "bidi"} & won


def test_a_judge_that_looks_at_clips_is_refused(chat_server: Any) -> None:
    judge = open_judge("openai:m", base_url=chat_server.url, sees="frames")
    with pytest.raises(UserError, match="sees clips"):
        attack_judge(judge, CASES)


def test_the_command(tmp_path: Path, shared_data: Path) -> None:
    ran = CliRunner().invoke(app, ["eval", "attack", "--judge", "answer-match"])
    assert ran.exit_code == 0
    assert re.search(r"reference +control +10/10 +100.0 +5.00", ran.stdout)
    assert "warning" not in ran.stderr
    command = ["eval", "attack", "--judge", "panel:answer-match,exact", "--task", "msvd_qa",
               "--data-dir", str(shared_data / "annotations"), "--limit", "3", "--json",
               "--out", str(tmp_path / "attack")]  # fmt: skip
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["cases"] == 3
    assert (tmp_path / "attack" / "panel" / "2.jsonl").is_file()


def test_the_command_tells_the_cost_and_stops_at_the_limit(
    chat_server: Any, tmp_path: Path
) -> None:
    """46 answers to one question for two judges; $0.003 a call, $2.048 at the most."""
    chat_server.models = ["m", "n"]
    chat_server.answer = lambda _: '{"explanation": "", "score": 1}'
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "date: 2026-01-02\nhosts: {127.0.0.1: {'*': {prompt: 0, completion: 1000}}}\n"
    )
    command = ["eval", "attack", "--panel", "openai:m,openai:n", "--base-url", chat_server.url,
               "--limit", "1", "--no-cache", "--prices", str(prices),
               "--out", str(tmp_path / "attack")]  # fmt: skip
    refused = CliRunner().invoke(app, [*command, "--max-cost", "1"])
    assert refused.exit_code == 2
    assert re.search(r"ahead: 92 requests, .* at prices of 2026-01-02", refused.stderr)
    assert "above --max-cost $1.00" in refused.stderr
    assert chat_server.requests == []
    stopped = CliRunner().invoke(app, [*command, "--max-cost", "2.1", "--yes"])
    assert stopped.exit_code == 1
    assert "stopped before --max-cost" in stopped.stderr
    paid = len(chat_server.requests)
    assert 0 < paid < 92
    whole = CliRunner().invoke(app, [*command, "--json"])
    assert whole.exit_code == 0, whole.stderr
    assert json.loads(whole.stdout)["attacks"]["order"]["n_scored"] == 1
    assert len(chat_server.requests) == 92


def test_the_command_says_when_figures_mean_nothing(chat_server: Any) -> None:
    chat_server.models = ["m"]
    chat_server.answer = lambda _: '{"explanation": "", "score": 5}'
    command = ["eval", "attack", "--judge", "openai:m", "--base-url", chat_server.url,
               "--limit", "1"]  # fmt: skip
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0
    assert "too few right answers right, or too many wrong ones" in ran.stderr
    chat_server.answer = lambda _: "babble"
    ran = CliRunner().invoke(app, [*command, "--protocol", "official"])
    assert ran.exit_code == 1
    assert "no verdict that can be read" in ran.stderr
