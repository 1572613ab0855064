"""The judge of captions against the judge of frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.judges import JudgeItem
from sharegptvideo.study.catalogue import KINDS
from sharegptvideo.study.node import Work
from sharegptvideo.study.verifier import CaptionJudge, FrameJudge
from sharegptvideo.synthetic import ClipState
from sharegptvideo.synthetic.state import ObjectState

KIND = KINDS["verifier"]
RING = ObjectState("ring", "red", "small", "up", "none", None, None, (1, 2))
STATE = ClipState((RING,), "dotted", dark=True, style="plain")
QUESTIONS = [
    {
        "id": "clip_0",
        "video": "clip",
        "kind": "direction",
        "text": "Which way does the ring move?",
        "answer": "The ring moves up.",
        "expected": {"direction": [["up"]]},
        "about": "ring",
    },
    {
        "id": "clip_1",
        "video": "clip",
        "kind": "colour",
        "text": "What colour is the ring?",
        "answer": "The ring is red.",
        "expected": {"colour": [["red"]]},
        "about": "ring",
    },
]
UP, DOWN, LAMP = (
    "The ring moves up.",
    "The ring moves down.",
    "The ring moves up, with a lamp hanging above.",
)
KINDS_OF = {question["id"]: question["kind"] for question in QUESTIONS}
PICTURE = "The image shows a small red ring on a dark dotted background."


def _item(number: int, answer: str) -> JudgeItem:
    question = QUESTIONS[number]
    return JudgeItem(
        f"{question['id']}#3", "preferences", "clip", question["text"], question["answer"], answer
    )


@pytest.mark.parametrize(
    ("number", "answer", "right"),
    [
        (0, UP, True),
        (0, DOWN, True),  # the caption cannot tell
        (0, "The ring stays still.", True),
        (0, LAMP, False),  # no lamp in the caption
        (0, "The cross moves up.", False),
        (1, "The ring is red.", True),
        (1, "The ring is blue.", False),
        (1, "The ring is red, next to a wooden table.", False),
    ],
)
def test_the_caption_judge_lets_pass_what_its_caption_leaves_out(number, answer, right):
    judge = CaptionJudge({"clip": PICTURE}, KINDS_OF)
    (verdict,) = judge.judge([_item(number, answer)])
    assert verdict.correct is right, verdict.reason


@pytest.mark.parametrize(
    ("number", "own", "answer", "right"),
    [
        (0, UP, UP, True),
        (0, UP, DOWN, False),
        (0, DOWN, DOWN, True),  # it sees no better than it does
        (0, UP, LAMP, False),
        (1, "The ring is red.", "It is red.", True),
        (1, "The ring is red.", "The ring is white.", False),
    ],
)
def test_the_frame_judge_compares_with_its_own_answer(number, own, answer, right):
    judge = FrameJudge({QUESTIONS[number]["id"]: own})
    (verdict,) = judge.judge([_item(number, answer)])
    assert verdict.correct is right, verdict.reason


def test_a_frame_judge_that_says_nothing_gives_no_verdict():
    (verdict,) = FrameJudge({"clip_0": ""}).judge([_item(0, UP)])
    assert verdict.status == "unscored"


def _world(folder: Path) -> Path:
    row = {"video": "clip", "split": "preference", "state": STATE.as_dict()}
    write_jsonl(folder / "states.jsonl", [{**row, "questions": QUESTIONS}])
    return folder


def test_agreement_of_the_caption_judge_on_facts_left_out(tmp_path: Path):
    """Passed, passed, refused, where right, wrong, wrong is true: kappa (2/3 − 4/9) / (5/9)."""
    world, drawn = _world(tmp_path / "world"), tmp_path / "drawn"
    write_jsonl(
        drawn / "candidates.jsonl",
        [
            {
                "id": question["id"],
                "video": "clip",
                "source": "synthetic",
                "question": question["text"],
                "answer": question["answer"],
                "caption": "not for this judge",
                "candidates": [UP, DOWN, LAMP],
                "error": None,
            }
            for question in QUESTIONS
        ],
    )
    out = tmp_path / "out"
    settings = {"seed": 0, "judge": "caption", "facts": "left_out"}
    scored = KIND.stages["verified_rewards"].work(
        Work(out, settings, {"world": world, "candidates": drawn})
    )
    assert scored["agreement"]["n"] == 3  # the question about colour is not judged
    assert scored["agreement"]["kappa"] == pytest.approx(0.4)
    assert scored["agreement"]["too_kind"] == 1
    # Without the lamp: passed, passed, of which one is right, which is chance.
    assert scored["kappa_of_values"] == pytest.approx(0.0)
    (row,) = [row for _, row in read_jsonl(out / "rewards.jsonl")]
    assert [answer["score"] for answer in row["answers"]] == [3.0, 3.0, 1.0]


def test_outcomes_of_some_facts_and_values_without_invented_things(tmp_path: Path):
    world, answers = _world(tmp_path / "world"), tmp_path / "answers"
    rows = [
        {"id": "clip_0", "kind": "direction", "right": False, "answer": LAMP},
        {"id": "clip_1", "kind": "colour", "right": True, "answer": "The ring is red."},
    ]
    write_jsonl(
        answers / "outcomes.jsonl", [{**row, "video": "clip", "contradicts": False} for row in rows]
    )

    def about(facts: str) -> dict:
        inputs = {"world": world, "answers": answers}
        return KIND.stages["answers_about"].work(Work(tmp_path / facts, {"facts": facts}, inputs))

    # With the lamp the answer is wrong, and its value is right.
    assert about("left_out") == {"n": 1, "accuracy": 0.0, "contradictions": 0.0, "values": 1.0}
    assert about("kept") == {"n": 1, "accuracy": 1.0, "contradictions": 0.0, "values": 1.0}
