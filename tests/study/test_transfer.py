"""Rewards for captioning and retrieval, and what carries from one task to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.build import PAIRS_FILE
from sharegptvideo.study import load_experiment
from sharegptvideo.study.catalogue import KINDS
from sharegptvideo.study.kind import Done
from sharegptvideo.study.node import Work
from sharegptvideo.synthetic import ClipState
from sharegptvideo.synthetic.state import ObjectState

KIND = KINDS["transfer"]
RED = ObjectState("ring", "red", "small", "up", "none", None, None, (1, 2))
BLUE = ObjectState("ring", "blue", "small", "up", "none", None, None, (1, 2))
# Eight facts each, of which seven are the same.
STATES = {
    "a": ClipState((RED,), "dotted", dark=True, style="plain"),
    "b": ClipState((BLUE,), "dotted", dark=True, style="plain"),
}
SCENE = "The video shows one object on a dark dotted background."
FULL = f"{SCENE} A small red ring moves up. It does not change."  # all eight
NO_COLOUR = f"{SCENE} A small ring moves up. It does not change."  # seven of eight
LARGE = f"{SCENE} A large red ring moves up. It does not change."  # one false, one missing
RED_RING = "A red ring."  # two of eight
BLUE_RING = "A blue ring."  # one of two is true, of eight


def _pairs(folder: Path, reward: str, captions: list[str]) -> list[dict]:
    """Pair captions of clip a by a reward, among the clips a and b."""
    world, drawn = folder / "world", folder / "drawn"
    write_jsonl(
        world / "states.jsonl",
        [
            {"video": clip, "split": "preference", "state": state.as_dict(), "questions": []}
            for clip, state in STATES.items()
        ],
    )
    row = {"id": "a", "video": "a", "source": "synthetic", "question": "Describe."}
    write_jsonl(drawn / "candidates.jsonl", [{**row, "candidates": captions}])
    out = folder / reward
    settings = {"seed": 0, "reward": reward, "count": 10}
    KIND.stages["caption_pairs"].work(Work(out, settings, {"world": world, "candidates": drawn}))
    return [row for _, row in read_jsonl(out / "data" / PAIRS_FILE)]


def test_captioning_pairs_best_and_worst_then_the_next(tmp_path: Path):
    pairs = _pairs(tmp_path, "captioning", [LARGE, RED_RING, FULL, NO_COLOUR, FULL, " "])
    assert [(row["chosen"], row["rejected"]) for row in pairs] == [
        (FULL, RED_RING),
        (NO_COLOUR, LARGE),
    ]
    # F1 = 2 true / (claimed + 8)
    assert [row["chosen_score"] for row in pairs] == [1.0, pytest.approx(14 / 15)]
    assert [row["rejected_score"] for row in pairs] == [pytest.approx(4 / 10), pytest.approx(7 / 8)]
    assert {(row["prompt"], row["video"]) for row in pairs} == {("Describe.", "a")}


def test_retrieval_asks_for_what_tells_clips_apart(tmp_path: Path):
    """Two words that single the clip out are better than seven facts that it shares."""
    (pair,) = _pairs(tmp_path, "retrieval", [NO_COLOUR, RED_RING])
    assert (pair["chosen"], pair["rejected"]) == (RED_RING, NO_COLOUR)
    assert pair["chosen_score"] == 1.0
    assert pair["rejected_score"] == pytest.approx(1 / 1.5)  # level with the other clip
    (pair,) = _pairs(tmp_path / "2", "retrieval", [BLUE_RING, RED_RING])
    assert (pair["chosen"], pair["rejected_score"]) == (RED_RING, 1 / 2)  # one clip stands above


def test_equal_captions_make_no_pair(tmp_path: Path):
    assert _pairs(tmp_path, "retrieval", [FULL, RED_RING, LARGE]) == []
    assert _pairs(tmp_path / "2", "captioning", [FULL]) == []


def _done(folder: Path, rows: list[dict]) -> Done:
    write_jsonl(folder / "outcomes.jsonl", rows)
    shares: dict[str, float] = {}
    for name in set(rows[0]) - {"id", "video"} if rows else ():
        shares["accuracy" if name == "right" else name] = sum(r[name] for r in rows) / len(rows)
    return Done(folder, {"n": len(rows), **shares}, 1.0)


def _arm(folder: Path, f1: float, right: int) -> dict[str, Done]:
    """One seed of one level: F1 from 0.5 to `f1`, right answers from 1 of 4 to `right`."""

    def captions(name: str, value: float) -> Done:
        figures = dict.fromkeys(("precision", "recall", "f1", "r1"), value) | {"claims": 8}
        return _done(folder / name, [{"id": clip, "video": clip, **figures} for clip in "ab"])

    def answers(name: str, count: int) -> Done:
        rows = [{"id": f"q{n}", "video": "ab"[n % 2], "right": n < count} for n in range(4)]
        return _done(folder / name, rows)

    return {
        "captions_before": captions("c0", 0.5),
        "captions": captions("c1", f1),
        "answers_before": answers("a0", 1),
        "answers": answers("a1", right),
        "pairs": Done(folder, {"n_pairs": 3}, 1.0),
        "dpo": Done(folder, {}, 1.0),
    }


def test_gains_in_every_task_and_the_contrast(tmp_path: Path):
    figures = {
        ("captioning", 0): (0.7, 1),
        ("captioning", 1): (0.9, 2),
        ("retrieval", 0): (0.6, 1),
        ("retrieval", 1): (0.6, 1),
        ("questions", 0): (0.5, 3),
        ("questions", 1): (0.4, 4),
    }
    done = {key: _arm(tmp_path / f"{key[0]}-{key[1]}", *value) for key, value in figures.items()}
    result = KIND.analyse(load_experiment("transfer"), done)
    rows = {row["level"]: row for row in result.table}
    assert rows["captioning"]["gain_f1"] == pytest.approx((0.2 + 0.4) / 2)
    assert rows["captioning"]["gain_accuracy"] == pytest.approx((0 + 1 / 4) / 2)
    assert rows["questions"]["gain_accuracy"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert rows["questions"]["accuracy_before"] == 0.25
    assert rows["questions"]["precision"] == pytest.approx(0.45)
    assert rows["retrieval"]["gain_r1"] == pytest.approx(0.1)
    # Seeds differ by 0 and −0.1: mean −0.05, standard error 0.05, t = −1 with one degree: p = 0.5.
    assert result.contrast is not None
    assert result.contrast["of"] == "questions"
    assert result.contrast["value"] == pytest.approx(-0.05)
    assert result.contrast["p_value"] == pytest.approx(0.5)
    assert result.contrast["holds"] is None
    assert "questions gains -5.0 in captions" in result.says[1].replace("−", "-")
    assert len(result.tables["outcomes"]) == 3 * 5
    assert not result.notes


def test_a_level_without_pairs_in_a_seed_has_its_figures_from_the_others(tmp_path: Path):
    figures = {
        (level, seed): (0.7, 2) for level in load_experiment("transfer").levels for seed in (0, 1)
    }
    done = {key: _arm(tmp_path / f"{key[0]}-{key[1]}", *value) for key, value in figures.items()}
    for name in ("captions", "answers"):
        done["retrieval", 1][name] = _done(tmp_path / f"none-{name}", [])
    result = KIND.analyse(load_experiment("transfer"), done)
    rows = {row["level"]: row for row in result.table}
    assert [rows[name]["n_seeds"] for name in ("captioning", "retrieval")] == [2, 1]
    assert rows["retrieval"]["gain_f1"] == pytest.approx(0.2)
    assert result.notes == ["retrieval: no pair in 1 of 2 seeds"]
