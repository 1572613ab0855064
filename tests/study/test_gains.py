"""Gains by level from made folders, against numbers derived by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from sharegptvideo._io import write_jsonl
from sharegptvideo.eval.hierarchical import SeededScores
from sharegptvideo.study import Contrast, Done, Experiment
from sharegptvideo.study.gains import (
    contrast_figures,
    contrast_sentence,
    gain_result,
    scores_of,
)

# Right answers to four questions about two clips, by seed; SFT and two levels.
SFT = {0: (1, 0, 0, 0), 1: (1, 1, 0, 0), 2: (0, 0, 0, 0)}
GOOD = {0: (1, 1, 1, 0), 1: (1, 1, 1, 0), 2: (1, 0, 1, 1)}  # gains of 2/4, 1/4 and 3/4
BAD = {0: (0, 0, 0, 1), 1: (1, 0, 0, 0), 2: (0, 0, 0, 0)}  # 0, -1/4 and 0
QUESTIONS = (("q0", "a", "colour"), ("q1", "a", "size"), ("q2", "b", "colour"), ("q3", "b", "size"))

Right = Mapping[int, Sequence[int] | None]


def answers(folder: Path, right: Sequence[int] | None) -> Done:
    rows = [
        {"id": name, "video": video, "kind": kind, "right": bool(each), "contradicts": False}
        for (name, video, kind), each in zip(QUESTIONS, right or (), strict=right is not None)
    ]
    write_jsonl(folder / "outcomes.jsonl", rows)
    share = sum(right) / len(right) if right else None
    contradictions = 0.0 if right else None
    figures = {"n": len(rows), "accuracy": share, "contradictions": contradictions}
    return Done(folder, figures, 1.0)


def training(folder: Path) -> Done:
    """Logged at steps 1, 5, 10 and 12; evaluated before it and after each of three epochs."""
    figures = [(1, -10.0, 0.5), (5, -11.0, 0.6), (10, -12.0, 0.7), (12, -13.0, 0.9)]
    names = ("step", "logps/chosen", "rewards/accuracies")
    write_jsonl(
        folder / "model" / "log.jsonl", [dict(zip(names, row, strict=True)) for row in figures]
    )
    evaluated = [{"step": step, "task": "synthetic_qa", "status": "ok"} for step in (0, 4, 8, 12)]
    write_jsonl(folder / "model" / "evals.jsonl", evaluated)
    return Done(folder, {"rows": 4}, 1.0)


def arm(folder: Path, seed: int, right: Sequence[int] | None) -> dict[str, Done]:
    agreement = {"kappa": 0.2 * (seed + 1), "share": 0.6 + 0.1 * seed}
    return {
        "sft_answers": answers(folder / "before", SFT[seed]),
        "answers": answers(folder / "after", right),
        "rewards": Done(folder, {"agreement": agreement}, 1.0),
        "pairs": Done(folder, {"n_pairs": 10 * (seed + 1) if right else 0}, 1.0),
        "dpo": training(folder / "dpo") if right else Done(folder, {"rows": 0}, 1.0),
    }


def analysed(
    folder: Path, levels: Mapping[str, Right], of: str, about: Mapping[str, Any] | None = None
) -> Any:
    settings = {"group": None, "x": None, "dollars_a_pair": None, "after": None, "breaks": True}
    experiment = Experiment(
        name="made", number=1, title="T", question="Q?", kind="arms", figure="gain", seeds=3,
        levels={name: {} for name in levels},
        contrast=Contrast(of=of, against="", expect="more", refuted_by="no gain"),
    )  # fmt: skip
    done = {
        (name, seed): arm(folder / name / str(seed), seed, right)
        for name, by_seed in levels.items()
        for seed, right in by_seed.items()
    }
    return gain_result(experiment, done, {name: settings | (about or {}) for name in levels})


def test_gains_by_level(tmp_path: Path) -> None:
    result = analysed(tmp_path, {"good": GOOD, "bad": BAD}, "good")
    good, bad = result.table
    # Gains of 0.5, 0.25 and 0.75: mean 0.5, standard deviation 0.25, t with 2 degrees 4.303.
    assert good["gains"] == [0.5, 0.25, 0.75]
    assert good["gain"] == pytest.approx(0.5)
    assert good["seed_sd"] == pytest.approx(0.25)
    half = 4.302653 * 0.25 / math.sqrt(3)
    assert (good["low"], good["high"]) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)
    # t = 0.5 / (0.25 / sqrt 3) = 3.4641; with 2 degrees p = 1 - t / sqrt(t² + 2) = 0.0742.
    assert good["p_value"] == pytest.approx(1 - 12**0.5 / 14**0.5)
    assert good["against_zero"] == "open"
    assert good["sft_accuracy"] == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert good["accuracy"] == pytest.approx(0.75)
    assert bad["gain"] == pytest.approx(-0.25 / 3)
    assert good["n_seeds"] == 3
    assert (good["kappa"], good["judge_right"], good["pairs"]) == pytest.approx((0.4, 0.7, 20))
    assert [row["level"] for row in result.breaks] == ["good", "bad"]
    assert result.breaks[0] == {key: good[key] for key in ("level", "kappa", "gain", "low", "high")}
    assert result.notes == []


def test_gains_by_kind_of_question(tmp_path: Path) -> None:
    """Of colour are q0 and q2, of size q1 and q3."""
    rows = analysed(tmp_path, {"good": GOOD}, "good").tables["by_kind"]
    assert [row["kind"] for row in rows] == ["colour", "size"]
    colour, size = rows
    assert colour["sft_accuracy"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert colour["accuracy"] == pytest.approx(1.0)
    assert colour["gain"] == pytest.approx(2 / 3)
    assert size["sft_accuracy"] == pytest.approx((0 + 0.5 + 0) / 3)
    assert size["accuracy"] == pytest.approx((0.5 + 0.5 + 0.5) / 3)


@pytest.mark.parametrize(
    ("after", "logps", "accuracy"), [(None, -13, 0.9), (3, -13, 0.9), (2, -11, 0.6), (1, -10, 0.5)]
)
def test_what_was_logged_is_of_the_model_that_answered(
    tmp_path: Path, after: int | None, logps: float, accuracy: float
) -> None:
    """After one and two epochs, steps 4 and 8, the last logs are those of steps 1 and 5."""
    (row,) = analysed(tmp_path, {"good": GOOD}, "good", {"after": after}).table
    assert (row["chosen_logps"], row["reward_accuracy"]) == pytest.approx((logps, accuracy))
    assert row["chosen_logps_first"] == pytest.approx(-10)


def test_dollars_are_of_the_pairs_that_were_made(tmp_path: Path) -> None:
    (row,) = analysed(tmp_path, {"good": GOOD}, "good", {"dollars_a_pair": 0.5}).table
    assert row["dollars"] == pytest.approx(10)  # 20 pairs a seed


def test_a_seed_without_pairs_is_left_out_and_said(tmp_path: Path) -> None:
    some = GOOD | {1: None}
    result = analysed(tmp_path, {"some": some, "good": GOOD}, "some")
    row = result.table[0]
    assert row["gains"] == [0.5, 0.75]
    assert (row["n_seeds"], row["gain"]) == (2, pytest.approx(0.625))
    assert row["sft_accuracy"] == pytest.approx(0.125)  # of the same two seeds
    assert row["pairs"] == pytest.approx((10 + 0 + 30) / 3)
    (note,) = result.notes
    assert note.startswith("some: no pair in 1 of 3 seeds")
    assert note.endswith("the figures are of the other 2.")


def test_a_level_without_any_pair_has_no_figures(tmp_path: Path) -> None:
    result = analysed(tmp_path, {"none": dict.fromkeys(range(3)), "good": GOOD}, "none")
    row = result.table[0]
    assert (row["gain"], row["low"], row["accuracy"], row["gains"]) == (None, None, None, [])
    assert row["kappa"] == pytest.approx(0.4)
    assert row["against_zero"] == "open"
    assert row.keys() == result.table[1].keys()
    assert result.notes[0].endswith("the level has no figures.")
    assert [each["level"] for each in result.breaks] == ["good"]
    assert result.says[0] == "None: nothing to compare."
    assert "(good)" in result.says[1]
    assert {each["level"] for each in result.tables["by_kind"]} == {"good"}
    assert (result.contrast["value"], result.contrast["holds"]) == (None, None)


def test_no_level_has_a_gain(tmp_path: Path) -> None:
    result = analysed(tmp_path, {"none": dict.fromkeys(range(3))}, "none")
    assert result.says[1] == "No level has a gain."


def test_which_level_gains_most_and_which_least(tmp_path: Path) -> None:
    steady = {0: (1, 1, 1, 0), 1: (1, 1, 1, 1), 2: (0, 1, 1, 0)}  # gains 1/2 in each seed
    levels = {"good": GOOD, "bad": BAD, "steady": steady}
    result = analysed(tmp_path, levels, "good")
    # Of steady no spread is seen; the sign test of three seeds gives p = 2 / 2³.
    assert result.table[2]["p_value"] == pytest.approx(0.25)
    assert result.says[1] == (
        "The largest gain is +50.0 points (good), the smallest −8.3 (bad); 0 of 3 levels are"
        " shown to gain."
    )


def changes(*by_seed: float) -> SeededScores:
    """Scores of one question a seed."""
    return scores_of((seed, "a", "q", value) for seed, value in enumerate(by_seed))


LARGE, SMALL = (0.20, 0.22, 0.18, 0.21), (0.001, 0.0, -0.001, 0.002)
WIDE = (0.5, -0.4, 0.3, -0.2)


@pytest.mark.parametrize(
    ("expect", "of", "holds"),
    [
        ("more", LARGE, True),
        ("less", LARGE, False),
        ("no_effect", LARGE, False),
        ("less", [-each for each in LARGE], True),
        ("more", [-each for each in LARGE], False),
        ("more", SMALL, False),  # within 3 points of nothing
        ("less", SMALL, False),
        ("no_effect", SMALL, True),
        ("more", WIDE, None),
        ("less", WIDE, None),
        ("no_effect", WIDE, None),
        ("more", LARGE[:1], None),  # one seed shows nothing
        ("no_effect", SMALL[:1], None),
    ],
)
def test_whether_the_declared_claim_holds(
    expect: Literal["less", "more", "no_effect"], of: Sequence[float], holds: bool | None
) -> None:
    declared = Contrast(of="a", against="b", expect=expect, refuted_by="that")
    scores = {"a": changes(*of), "b": changes(*[0.0] * len(of))}
    figures = contrast_figures(declared, scores)
    assert figures["holds"] is holds
    assert figures["value"] == pytest.approx(sum(of) / len(of))
    alone = contrast_figures(declared.model_copy(update={"against": ""}), scores)
    assert (alone["holds"], alone["value"]) == (holds, figures["value"])


def test_a_contrast_is_paired_by_seed() -> None:
    """Both levels move by 0.4 from seed to seed, and their difference by nothing like it."""
    declared = Contrast(of="a", against="b", expect="more", refuted_by="that")
    scores = {"a": changes(0.1, 0.5, 0.92), "b": changes(0.0, 0.41, 0.8)}
    figures = contrast_figures(declared, scores)
    # Differences of 0.10, 0.09 and 0.12: mean 0.31 / 3, variance 0.000233.
    assert figures["value"] == pytest.approx(0.31 / 3)
    assert figures["seed_sd"] == pytest.approx(0.0152753, abs=1e-6)
    assert figures["holds"] is True


def test_a_contrast_is_over_the_seeds_of_both() -> None:
    declared = Contrast(of="a", against="b", expect="more", refuted_by="that")
    scores = {
        "a": scores_of([(0, "a", "q", 0.3), (2, "a", "q", 0.5)]),
        "b": changes(0.1, 0.9, 0.2),
    }
    figures = contrast_figures(declared, scores)
    assert (figures["n_seeds"], figures["value"]) == (2, pytest.approx(0.25))
    without = contrast_figures(declared, scores | {"b": scores_of([])})
    assert (without["n_seeds"], without["value"], without["holds"]) == (0, None, None)
    assert contrast_sentence(without, "gain") == "A against b: nothing to compare."


@pytest.mark.parametrize(
    ("expect", "ends"),
    [("less", "less."), ("more", "more."), ("no_effect", "no effect.")],
)
def test_sentence_of_a_contrast(expect: str, ends: str) -> None:
    figures = {
        "of": "a", "against": "b", "value": -0.0512, "ci95": (-0.08, -0.02), "p_value": 0.012,
        "n_seeds": 5, "expect": expect,
    }  # fmt: skip
    said = contrast_sentence(figures, "gain")
    assert said == (
        "A against b: difference in gain −5.1 points (−8.0 to −2.0; 5 seeds, p 0.012 uncorrected);"
        f" declared beforehand: {ends}"
    )
    alone = contrast_sentence(figures | {"against": "", "ci95": None, "n_seeds": 1}, "gain")
    assert alone == f"A: gain −5.1 points (1 seed: no interval); declared beforehand: {ends}"
