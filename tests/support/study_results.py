"""Results of experiments as `study run` leaves them, written by hand: figures that no one ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import write_json

__all__ = ["JUDGE_LEVELS", "experiment", "judge_quality", "results", "settings", "write_results"]

Row = dict[str, Any]

JUDGE_LEVELS = {
    "answer-match on true captions": ("as it is", 0.86, 0.141, 0.021),
    "10 % of verdicts flipped": ("flipped evenly", 0.68, 0.118, 0.030),
    "20 % of verdicts flipped": ("flipped evenly", 0.51, 0.094, 0.041),
    "30 % of verdicts flipped": ("flipped evenly", 0.33, 0.052, 0.038),
    "40 % of verdicts flipped": ("flipped evenly", 0.16, 0.011, 0.044),
    "30 % of wrong answers accepted": ("lenient", 0.61, 0.101, 0.035),
    "60 % of wrong answers accepted": ("lenient", 0.34, 0.061, 0.029),
    "30 % of right answers refused": ("strict", 0.58, 0.112, 0.026),
    "60 % of right answers refused": ("strict", 0.29, 0.083, 0.047),
    "captions omit 30 %": ("captions omit", 0.80, 0.125, 0.024),
    "captions omit 60 %": ("captions omit", 0.72, 0.087, 0.033),
    "captions lie in 30 %": ("captions lie", 0.52, 0.049, 0.036),
    "captions lie in 60 %": ("captions lie", 0.21, -0.037, 0.040),
    "SmolLM2-135M, 60 questions": ("a real bad judge", 0.02, -0.008, 0.031),
}
"""By level: group, kappa, gain, half of its interval."""


def experiment(name: str, number: int, **more: Any) -> Row:
    """Return what an experiment's file holds."""
    return {
        "name": name,
        "number": number,
        "title": f"Title of {name}?",
        "question": f"Question of {name}?",
        "kind": "arms",
        "figure": "gain of DPO over SFT, points of accuracy on unseen clips",
        "x_title": "",
        "seeds": 5,
        "levels": {"a": {}, "b": {}},
        "contrast": {"of": "a", "against": "b", "expect": "less", "refuted_by": f"{name} is wrong"},
        "notes": [],
        **more,
    }


def results(
    about: Row,
    table: Sequence[Row],
    contrast: Mapping[str, Any] | None,
    *,
    chart: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """Return a file of `results/`; `contrast` has what is not as of a contrast of five seeds."""
    return {
        "table": list(table),
        "contrast": None if contrast is None else {
            **about["contrast"], "value": -0.05, "se": 0.01, "ci95": [-0.0778, -0.0222],
            "ci95_bootstrap": [-0.07, -0.03], "n_seeds": about["seeds"], "n_clusters": 1500,
            "n": 6000, "seed_sd": 0.0224, "p_value": 0.0075, "p_equivalence": 0.94,
            "ci90": [-0.0713, -0.0287], "verdict": "difference", "holds": True,
            "seeds_needed": 7, **contrast,
        },
        "charts": [{
            "form": "points", "x": "level", "y": "gain", "x_title": "", "y_title": about["figure"],
            "low": "low", "high": "high", "series": None, "unit": "points", "log_x": False,
            **(chart or {}),
        }],
        "says": ["The first sentence.", "The second one."],
        "breaks": [],
        "tables": {},
        "notes": [],
        "experiment": about,
        "scale": "small",
        "seeds": list(range(about["seeds"])),
        "state": "complete",
        "seconds": {"pretrain": 1200.0, "dpo": 600.0},
        "pieces": {"pretrain": 5, "dpo": 70},
        "machine": {"cores": 2},
        "version": "0.9.0",
        **more,
    }  # fmt: skip


def level(name: str, gain: float | None, half: float | None, **more: Any) -> Row:
    """Return a row of a table; without `half` there is no interval."""
    ends = (None, None) if gain is None or half is None else (gain - half, gain + half)
    return {"level": name, **more, "n_seeds": 5, "gain": gain, "low": ends[0], "high": ends[1],
            "gains": [gain, gain]}  # fmt: skip


def judge_quality() -> Row:
    """Return 14 levels in 7 groups with a kappa each, over five seeds."""
    about = experiment(
        "judge_quality",
        1,
        title="How good must the judge be?",
        levels={name: {} for name in JUDGE_LEVELS},
        contrast={
            "of": "captions lie in 60 %",
            "against": "captions omit 60 %",
            "expect": "less",
            "refuted_by": "captions that lie cost no more of the gain than captions that omit",
        },
        notes=["Flips are drawn for each answer, by seed."],
    )
    table = [
        level(name, gain, half, group=group, kappa=kappa)
        for name, (group, kappa, gain, half) in JUDGE_LEVELS.items()
    ]
    breaks = [{key: row[key] for key in ("level", "kappa", "gain", "low", "high")} for row in table]
    by_kind = [{"level": name, "kind": "colour", "gain": 0.1} for name in JUDGE_LEVELS]
    return results(about, table, {"value": -0.124}, chart={"series": "group"}, breaks=breaks,
                   tables={"by_kind": by_kind})  # fmt: skip


def settings() -> Row:
    """Return five lines over three epochs, three of five seeds."""
    about = experiment("settings", 3, title="How sensitive is DPO to its settings?", seeds=3)
    gains = {
        "5e-6, beta 0.1": (0.02, 0.04, 0.05),
        "2e-5, beta 0.1": (0.08, 0.12, 0.14),
        "1e-4, beta 0.1": (0.11, 0.13, 0.12),
        "1e-4, beta 0.02": (0.12, 0.10, 0.06),
        "1e-3, beta 0.1": (-0.1, -0.31, -0.42),
    }
    table = [
        level(f"{name}, {x} epochs", gain, 0.03, group=name, x=x)
        for name, values in gains.items()
        for x, gain in enumerate(values, start=1)
    ]
    chart = {"form": "lines", "x": "x", "x_title": "epochs", "series": "group"}
    return results(about, table, {"value": -0.5}, chart=chart)


def write_results(study: Path, *files: Row) -> Path:
    """Write results to a study's folder."""
    for each in files:
        write_json(study / "results" / f"{each['experiment']['name']}.json", each)
    return study
