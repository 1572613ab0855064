"""Gains of DPO over SFT by level, paired by question over seeds, and the declared contrast."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sharegptvideo._io import read_jsonl
from sharegptvideo._text import interval, p_value, plural, points
from sharegptvideo.eval.hierarchical import (
    NO_EFFECT_MARGIN,
    SeededDifference,
    SeededScores,
    conclusion,
    equivalence,
    seeded_difference,
    seeds_to_detect,
)
from sharegptvideo.study.experiment import Contrast, Experiment
from sharegptvideo.study.kind import Chart, Done, Result
from sharegptvideo.study.loop import evaluations

__all__ = [
    "against_zero",
    "changes",
    "contrast_figures",
    "contrast_sentence",
    "gain_result",
    "scores_of",
]

_ALPHA = 0.05

Outcomes = Mapping[str, Mapping[str, Any]]


def scores_of(
    rows: Iterable[tuple[int, str, str, float]],
) -> SeededScores:
    """Return scores of (seed, clip, question, value)."""
    seeds, clips, questions, values = zip(*rows, strict=True) if (rows := [*rows]) else ([],) * 4
    return SeededScores(values, seeds, clips, questions)


def gain_result(
    experiment: Experiment,
    done: Mapping[tuple[str, int], Mapping[str, Done]],
    about: Mapping[str, Mapping[str, Any]],
) -> Result:
    """Return gains by level, and the contrast between two levels' gains.

    Args:
        experiment: whose levels are looked at.
        done: by level and seed `sft_answers`, `answers`, `rewards`, `pairs` and `dpo`.
        about: by level `group`, `x`, `dollars_a_pair`, `after` (see `arms.Training`), and `breaks`,
            whether it belongs into the figure of all break conditions.

    A seed in which a level had no pair to train on has no gain there: it is left out, and said.
    """
    all_seeds = sorted({seed for _, seed in done})
    table, gains, breaks, notes = [], {}, [], []
    by_kind: list[dict[str, Any]] = []
    for level in experiment.levels:
        seeds = [seed for seed in all_seeds if done[level, seed]["answers"].findings["n"]]
        if len(seeds) < len(all_seeds):
            notes.append(_without_pairs(level, len(seeds), len(all_seeds)))
        arms = [done[level, seed] for seed in seeds]
        gains[level] = changes(
            seeds, [arm["sft_answers"] for arm in arms], [arm["answers"] for arm in arms]
        )
        gain = against_zero(gains[level])
        rewarded = [done[level, seed] for seed in all_seeds]
        row = _row(level, arms, gain, about[level]) | _of_rewards(rewarded, about[level])
        table.append(row)
        by_kind += _by_kind(level, arms)
        if about[level]["breaks"] and None not in (row["kappa"], row["gain"]):
            breaks.append({key: row[key] for key in ("level", "kappa", "gain", "low", "high")})
    contrast = contrast_figures(experiment.contrast, gains)
    return Result(
        table=table,
        contrast=contrast,
        charts=_charts(experiment, about),
        says=(contrast_sentence(contrast, "gain"), _range(table)),
        breaks=breaks,
        tables={"by_kind": by_kind},
        notes=notes,
    )


def _without_pairs(level: str, having: int, seeds: int) -> str:
    """Say in how many seeds a level had nothing to train on."""
    none = f"{level}: no pair in {seeds - having} of {plural(seeds, 'seed')}, since no question had"
    rest = f"the figures are of the other {having}" if having else "the level has no figures"
    return f"{none} an answer on each side; {rest}."


def _outcomes(done: Done) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(done.folder / "outcomes.jsonl")]


def changes(
    seeds: Sequence[int], before: Sequence[Done], after: Sequence[Done], column: str = "right"
) -> SeededScores:
    """Return after − before of a column of `outcomes.jsonl`, by seed, clip and id.

    Args:
        seeds: of the works.
        before: a work a seed, with the same ids as `after`.
        after: likewise.
        column: of numbers, or of true and false.
    """
    rows = []
    for seed, old, new in zip(seeds, before, after, strict=True):
        old_values = {row["id"]: float(row[column]) for row in _outcomes(old)}
        rows += [
            (seed, row["video"], row["id"], float(row[column]) - old_values.pop(row["id"]))
            for row in _outcomes(new)
        ]
        if old_values:
            raise ValueError(f"{min(old_values)!r} of seed {seed} is before only")
    return scores_of(rows)


def against_zero(scores: SeededScores) -> SeededDifference:
    """Return their mean over seeds, with the test against zero."""
    zero = SeededScores([0.0] * len(scores.seeds), scores.seeds, scores.clips, scores.questions)
    return seeded_difference(zero, scores)


def _row(
    level: str, arms: Sequence[Mapping[str, Done]], gain: SeededDifference, about: Mapping[str, Any]
) -> dict[str, Any]:
    equal = equivalence(gain)
    shown = conclusion(gain.p_value, equal.p_value)
    low, high = gain.ci95 or (None, None)
    curves = [_logged(arm["dpo"], about["after"]) for arm in arms]
    return {
        "level": level,
        "group": about["group"],
        "x": about["x"],
        "n_seeds": gain.n_seeds,
        "kappa": None,  # its place in the row; see `_of_rewards`
        "judge_right": None,
        "pairs": None,
        "gain": gain.value,
        "low": low,
        "high": high,
        "bootstrap_low": gain.ci95_bootstrap[0] if gain.ci95_bootstrap else None,
        "bootstrap_high": gain.ci95_bootstrap[1] if gain.ci95_bootstrap else None,
        "seed_sd": gain.seed_sd,
        "p_value": gain.p_value,
        "p_equivalence": equal.p_value,
        "against_zero": shown,
        "sft_accuracy": _mean(arm["sft_answers"].findings["accuracy"] for arm in arms),
        "accuracy": _mean(arm["answers"].findings["accuracy"] for arm in arms),
        "sft_contradictions": _mean(arm["sft_answers"].findings["contradictions"] for arm in arms),
        "contradictions": _mean(arm["answers"].findings["contradictions"] for arm in arms),
        "chosen_logps": _mean(logged["logps/chosen"] for _, logged in curves),
        "chosen_logps_first": _mean(logged["logps/chosen"] for logged, _ in curves),
        "reward_accuracy": _mean(logged["rewards/accuracies"] for _, logged in curves),
        "dollars": None,
        "gains": [
            arm["answers"].findings["accuracy"] - arm["sft_answers"].findings["accuracy"]
            for arm in arms
        ],
    }


def _of_rewards(arms: Sequence[Mapping[str, Done]], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a level without any training."""
    pairs = _mean(arm["pairs"].findings["n_pairs"] for arm in arms)
    price = about["dollars_a_pair"]
    return {
        "kappa": _mean(arm["rewards"].findings["agreement"]["kappa"] for arm in arms),
        "judge_right": _mean(arm["rewards"].findings["agreement"]["share"] for arm in arms),
        "pairs": pairs,
        "dollars": None if price is None or pairs is None else price * pairs,
    }


def _logged(dpo: Done, after: int | None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the log's first row and the last one before the model that answered.

    Args:
        dpo: a training.
        after: the model is that of so many epochs; None: of the end.
    """
    rows = [row for _, row in read_jsonl(dpo.folder / "model" / "log.jsonl")]
    end = evaluations(dpo.folder / "model")[after][0] if after is not None else rows[-1]["step"]
    return rows[0], [row for row in rows if row["step"] <= end][-1]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def contrast_figures(contrast: Contrast, scores: Mapping[str, SeededScores]) -> dict[str, Any]:
    """Return the declared contrast's figures: `of` − `against`, or `of` against zero.

    `holds` is True where the claim is shown, False where its opposite is (a difference the other
    way, no effect where one was claimed, a difference beyond the margin where none was), else None.
    """
    of = scores[contrast.of]
    if contrast.against:
        against = scores[contrast.against]
        both = set(of.seeds) & set(against.seeds)  # a level may have no figures in some seeds
        difference = seeded_difference(_of_seeds(against, both), _of_seeds(of, both))
    else:
        difference = against_zero(of)
    equal = equivalence(difference)
    return {
        **contrast.model_dump(mode="json"),
        **asdict(difference),
        "p_equivalence": equal.p_value,
        "ci90": equal.ci90,
        "verdict": conclusion(difference.p_value, equal.p_value),
        "holds": _holds(contrast.expect, difference, equal.within),
        "seeds_needed": seeds_to_detect(difference.seed_sd, NO_EFFECT_MARGIN)
        if difference.seed_sd
        else None,
    }


def _of_seeds(scores: SeededScores, seeds: Collection[object]) -> SeededScores:
    """Return the scores of some seeds."""
    import numpy as np

    places = [place for place, seed in enumerate(scores.seeds) if seed in seeds]
    kept = ([ids[at] for at in places] for ids in (scores.seeds, scores.clips, scores.questions))
    return SeededScores(np.asarray(scores.values)[places], *kept)


def _holds(expect: str, difference: SeededDifference, within: bool) -> bool | None:
    differs = difference.p_value is not None and difference.p_value < _ALPHA
    if expect == "no_effect":
        return True if within else False if differs else None
    if differs and difference.value is not None:
        return (difference.value < 0) == (expect == "less")
    return False if within else None


def contrast_sentence(contrast: Mapping[str, Any], figure: str) -> str:
    """Give the declared contrast's figures and what was declared, in one sentence.

    What that makes of the claim depends on the other contrasts (Holm), and is the report's to say.

    Args:
        contrast: as `contrast_figures` returns it.
        figure: what is compared, such as "gain".
    """
    value, ends, p = contrast["value"], contrast["ci95"], contrast["p_value"]
    compared = contrast["of"] + (f" against {contrast['against']}" if contrast["against"] else "")
    compared = compared[0].upper() + compared[1:]
    if value is None:
        return f"{compared}: nothing to compare."
    named = f"difference in {figure}" if contrast["against"] else figure
    seeds = plural(contrast["n_seeds"], "seed")
    about = f"{seeds}: no interval" if ends is None else f"{interval(ends, sign=True)}; {seeds}"
    if ends is not None and p is not None:
        about += f", p {p_value(p)} uncorrected"
    declared = {"less": "less", "more": "more", "no_effect": "no effect"}[contrast["expect"]]
    return (
        f"{compared}: {named} {points(value, sign=True)} points ({about}); declared beforehand:"
        f" {declared}."
    )


def _range(table: Sequence[Mapping[str, Any]]) -> str:
    """Say which level gains most, which least, and how many are shown to gain at all."""
    known = [row for row in table if row["gain"] is not None]
    if not known:
        return "No level has a gain."
    best, worst = max(known, key=lambda row: row["gain"]), min(known, key=lambda row: row["gain"])
    shown = sum(row["against_zero"].startswith("difference") and row["gain"] > 0 for row in known)
    return (
        f"The largest gain is {points(best['gain'], sign=True)} points ({best['level']}), the"
        f" smallest {points(worst['gain'], sign=True)} ({worst['level']}); {shown} of {len(known)}"
        " levels are shown to gain."
    )


def _charts(experiment: Experiment, about: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    placed = all(each["x"] is not None for each in about.values())
    grouped = any(each["group"] is not None for each in about.values())
    points_chart = Chart(
        "points", "level", "gain", "", experiment.figure, low="low", high="high",
        series="group" if grouped else None,
    )  # fmt: skip
    if not placed:
        return [points_chart]
    log = min(each["x"] for each in about.values()) > 0
    return [
        Chart(
            "lines",
            "x",
            "gain",
            experiment.x_title,
            experiment.figure,
            low="low",
            high="high",
            series="group" if grouped else None,
            log_x=log,
        ),
        points_chart,
    ]


def _by_kind(level: str, arms: Sequence[Mapping[str, Done]]) -> Iterable[dict[str, Any]]:
    """Yield a level's gains by kind of question: means over the seeds that have the kind."""
    before = [_outcomes(arm["sft_answers"]) for arm in arms]
    after = [_outcomes(arm["answers"]) for arm in arms]
    for kind in sorted({row["kind"] for rows in before for row in rows}):
        shares = [
            [
                statistics.fmean(row["right"] for row in rows if row["kind"] == kind)
                for rows in each
                if any(row["kind"] == kind for row in rows)
            ]
            for each in (before, after)
        ]
        yield {
            "level": level,
            "kind": kind,
            "sft_accuracy": statistics.fmean(shares[0]),
            "accuracy": statistics.fmean(shares[1]),
            "gain": statistics.fmean(shares[1]) - statistics.fmean(shares[0]),
        }
