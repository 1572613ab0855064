"""How the judge of captions agrees with the exact state: by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sharegptvideo._io import write_jsonl
from sharegptvideo.demo.exact_state import ExactStateJudge, agreement_on_rewards
from sharegptvideo.judges import JudgeItem
from sharegptvideo.synthetic.language import draw_questions
from sharegptvideo.synthetic.state import sample_state


def test_agreement_on_rewards_by_hand(tmp_path: Path) -> None:
    """20 both right, 15 both wrong, 5 too kind, 10 too strict, 3 unscored: seen 0.7, chance 0.5.

    So kappa is 0.4.
    """
    rng = random.Random(0)
    state = sample_state(rng, held_out=False)
    question = draw_questions(state, rng, 1)[0]
    row = {"state": state.as_dict(), "questions": [question.as_dict() | {"id": "q"}]}
    write_jsonl(tmp_path / "states.jsonl", [row])
    right, wrong = question.answer, "It is a dishwasher."
    answers = [
        {"text": right, "score": 5, "copies": 20},
        {"text": wrong, "score": 1, "copies": 15},
        {"text": wrong, "score": 3, "copies": 5},
        {"text": right, "score": 2, "copies": 10},
        {"text": right, "score": None, "copies": 3},
    ]
    write_jsonl(tmp_path / "rewards.jsonl", [{"id": "q", "answers": answers}])
    assert agreement_on_rewards(tmp_path, tmp_path) == {
        "n": 50,
        "share": pytest.approx(0.7),
        "kappa": pytest.approx(0.4),
        "too_kind": 5,
        "too_strict": 10,
    }
    write_jsonl(tmp_path / "rewards.jsonl", [{"id": "q", "answers": answers[:1]}])
    assert agreement_on_rewards(tmp_path, tmp_path)["kappa"] is None
    write_jsonl(tmp_path / "rewards.jsonl", [{"id": "q", "answers": answers[4:]}])
    assert agreement_on_rewards(tmp_path, tmp_path)["n"] == 0


def test_the_exact_state_judges_the_numbered_answers_of_rewards(tmp_path: Path) -> None:
    rng = random.Random(0)
    state = sample_state(rng, held_out=False)
    question = draw_questions(state, rng, 1)[0]
    row = {"state": state.as_dict(), "questions": [question.as_dict() | {"id": "q_1"}]}
    write_jsonl(tmp_path / "states.jsonl", [row])
    answers = (question.answer, "It is a dishwasher.")
    items = [
        JudgeItem(id_, "preferences", "clip", question.text, question.answer, answer)
        for id_, answer in zip(("q_1#0", "q_1#1"), answers, strict=True)
    ]
    items.append(JudgeItem("q_2#0", "preferences", "clip", "?", "?", "?"))
    verdicts = list(ExactStateJudge(tmp_path).judge(items))
    assert [verdict.correct for verdict in verdicts] == [True, False, None]
