"""Judge drift: verdicts by several judges, ranks, and the published table, with numbers by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.study.catalogue import load_experiment
from sharegptvideo.study.drift import Drift
from sharegptvideo.study.experiment import Contrast, Experiment
from sharegptvideo.study.kind import Done, Kind
from sharegptvideo.study.node import Work
from sharegptvideo.study.scales import SCALES

CAPTION = "On a dark plain background we see one object. A small red ring stays still in the north."
RING = ("a_0", "What colour is the ring?", "The ring is red.")
LAMP = ("b_0", "Is there a lamp in the video?", "No, there is no lamp.")
INVENTED = "The ring is red, next to a wooden table."
LEVELS: dict[str, dict[str, Any]] = {
    "usual": {},
    "loose": {"accept_from": 2},
    "no caption": {"caption": False},
    "exact": {"judge": "exact"},
    "state": {"judge": "state"},
}


def test_same_answers_by_five_judges(tmp_path: Path) -> None:
    """Of two questions: who accepts an invented table, and what that makes of gain and ranks.

    | right | pretrain | sft, seed 0 | sft, seed 1 | dpo |
    | usual, exact, state | 1/2 | 0/2 | 1/2 | 2/2 |
    | loose, no caption | 1/2 | 1/2, the invented table | 1/2 | 2/2 |

    Gain: usual (1 + 1/2) / 2, loose 1/2. Tau of loose: in seed 0 two pairs of models agree and one
    is tied by loose alone, 2 / sqrt(3 · 2); in seed 1 the same ranks, 1. Mean accuracy: usual
    (1/2 + 0 + 1 + 1/2 + 1/2 + 1) / 6, loose 4/6. Of 12 verdicts usual and state agree on all.
    """
    done: dict[tuple[str, int], dict[str, Done]] = {}
    for seed, of_sft in ((0, INVENTED), (1, RING[2])):
        work = _judged(tmp_path / str(seed), of_sft)
        done |= {(level, seed): {"verdicts": Done(work.folder, {}, 1.0)} for level in LEVELS}
    result = Drift().analyse(_experiment(), done)
    table = {row["level"]: row for row in result.table}
    assert [row["gain"] for row in result.table] == pytest.approx([0.75, 0.5, 0.5, 0.75, 0.75])
    assert table["loose"]["tau"] == pytest.approx((2 / 6**0.5 + 1) / 2)
    assert table["loose"]["tau_least"] == pytest.approx(2 / 6**0.5)
    assert table["exact"]["tau"] == pytest.approx(1)
    assert table["loose"]["shift"] == pytest.approx(4 / 6 - 3.5 / 6)
    assert (table["usual"]["kappa"], table["state"]["kappa"]) == (pytest.approx(1), None)
    sft = next(row for row in result.tables["by_model"] if row["model"] == "sft")
    assert (sft["usual"], sft["loose"], sft["range"]) == pytest.approx((0.25, 0.5, 0.25))
    assert result.contrast is not None
    assert result.contrast["value"] == pytest.approx(0.5)
    assert result.contrast["holds"] is None  # two seeds that agree: a p-value of 1/2
    assert "DPO's gain is +50.0 to +75.0" in result.says[1]


def test_failed_answer_is_wrong(tmp_path: Path) -> None:
    work = _judged(tmp_path, None)
    rows = [row for _, row in read_jsonl(work.folder / "verdicts.jsonl")]
    failed = next(row for row in rows if row["model"] == "sft" and row["id"] == "a_0")
    assert failed["right"] == dict.fromkeys(LEVELS, False)


def test_models_are_those_of_other_experiments() -> None:
    """Every training that drift asks for is one of judge_quality or video_used, seed by seed."""
    scale, seeds = SCALES["small"], range(5)
    trained = set()
    for name in ("judge_quality", "video_used"):
        experiment = load_experiment(name)
        plan = _kind(name).plan(experiment, scale, seeds)
        trained |= {node.key for nodes in plan.values() for node in nodes.values()}
    plan = Drift().plan(load_experiment("judge_drift"), scale, seeds)
    for nodes in plan.values():
        answers = [each for name, each in nodes["verdicts"].parents.items() if name != "world"]
        assert len(answers) == 7
        assert sum(each.key in trained for each in answers) == 6  # all but those after captions


def _experiment() -> Experiment:
    return Experiment(
        name="made_up",
        number=1,
        title="t",
        question="q",
        kind="drift",
        figure="gain",
        seeds=2,
        levels=LEVELS,
        contrast=Contrast(of="loose", expect="more", refuted_by="no gain"),
    )


def _kind(name: str) -> Kind:
    from sharegptvideo.study.catalogue import KINDS

    return KINDS[load_experiment(name).kind]


def _judged(folder: Path, of_sft: str | None) -> Work:
    """Judge the answers of three models to two questions; the world is two rows of a test set."""
    world = folder / "world"
    write_jsonl(
        world / "video_instruction" / "test" / "synthetic.qa.jsonl",
        [
            {
                "id": id,
                "video": id[0],
                "caption": CAPTION,
                "question_type": "any",
                "conversations": [
                    {"from": "human", "value": f"<video>\n{question}"},
                    {"from": "gpt", "value": answer},
                ],
            }
            for id, question, answer in (RING, LAMP)
        ],
    )
    answers = {
        "pretrain": ("The ring is blue.", LAMP[2]),
        "sft": (of_sft, "Yes, there is a lamp."),
        "dpo": (RING[2], LAMP[2]),
    }
    inputs = {"world": world}
    for model, (ring, lamp) in answers.items():
        inputs[model] = folder / model
        write_jsonl(
            inputs[model] / "outcomes.jsonl",
            [
                {"id": "a_0", "video": "a", "answer": ring, "right": ring == RING[2]},
                {"id": "b_0", "video": "b", "answer": lamp, "right": lamp == LAMP[2]},
            ],
        )
    out = folder / "out"
    out.mkdir()
    work = Work(out, {"judges": LEVELS, "versions": {}}, inputs)
    assert Drift.stages["rejudge"].work(work) == {"answers": 6}
    return work
