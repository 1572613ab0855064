"""SFT against DPO on the two test sets, by the exact state and by the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.storage import read_json

__all__ = ["SETS", "compare_models"]

SETS = {"test": "synthetic_qa", "out_of_domain": "synthetic_ood_qa"}


def compare_models(runs: Path) -> dict[str, Any]:
    """The figures of the demo, by test set.

    For each: `n_videos`, `n_questions`, `sft` and `dpo` {accuracy, se}, `delta` (DPO − SFT),
    `delta_ci95`, `p_value`, all by the exact state, standard errors clustered by video and the
    difference paired by question; and `judged`, the same by the judge of captions.
    """
    exact = _compare(runs / "sft-exact", runs / "dpo-exact")
    judged = _compare(runs / "sft", runs / "dpo")
    return {name: {**exact[name], "judged": judged[name]} for name in SETS}


def _compare(sft: Path, dpo: Path) -> dict[str, dict[str, Any]]:
    difference = compare_runs(sft, dpo)["tasks"]
    results = {"sft": read_json(sft / "results.json"), "dpo": read_json(dpo / "results.json")}
    figures: dict[str, dict[str, Any]] = {}
    for name, task in SETS.items():
        paired = difference[task]
        figures[name] = {
            "n_videos": paired["n_clusters"],
            "n_questions": paired["n"],
            **{
                model: {
                    "accuracy": found["tasks"][task]["accuracy"]["value"],
                    "se": found["tasks"][task]["accuracy"]["se"],
                }
                for model, found in results.items()
            },
            "delta": paired["delta"],
            "delta_ci95": paired["ci95"],
            "p_value": paired["p_value"],
        }
    return figures
