"""From a finished run folder of 72,821 judgements, the size of MSRVTT-QA, to results.json.

    python tests/benchmarks/bench_scoring.py [--questions N] [--repeats R]

Made-up questions on 2,990 videos are answered from a file and judged once by `exact`; then
results.json is removed and the same command run again, which judges nothing. Beside it, in the
same run, the same accuracy with its clustered standard error by statsmodels on the rows read with
pandas: no resuming, no coverage, no intervals from draws. Prints one JSON object; exits with 1
where the median is 10 s or more, or the two standard errors differ.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.eval import judge_predictions

LIMIT_S = 10.0
VIDEOS = 2990
TASK = "msrvtt_qa_official"


def make_inputs(folder: Path, questions: int) -> Path:
    """An annotation file in MSRVTT-QA's form, and a file of predictions, six in ten right."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(500)]
    rows = [
        {
            "id": number,
            "video_id": 7010 + number % VIDEOS,
            "question": f"what is the {draw.choice(words)} doing?",
            "answer": draw.choice(words),
            "category_id": 1,
        }
        for number in range(questions)
    ]
    write_json(folder / "msrvtt_qa_test_qa.json", rows)
    said = [
        {
            "id": str(row["id"]),
            "prediction": row["answer"] if draw.random() < 0.6 else draw.choice(words),
        }
        for row in rows
    ]
    write_jsonl(folder / "predictions.jsonl", said)
    return folder / "predictions.jsonl"


def by_statsmodels(run: Path) -> tuple[float, float]:
    """(accuracy, clustered standard error) of the judgements, by other people's code."""
    import numpy as np
    import pandas as pd
    import statsmodels.api as sm

    verdicts = pd.read_json(run / "judgements.jsonl", lines=True)
    answers = pd.read_json(run / "predictions.jsonl", lines=True)
    table = verdicts.merge(answers[["id", "video"]], on="id")
    right = table["correct"].astype(float).to_numpy()
    fit = sm.OLS(right, np.ones_like(right)).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(table["video"])[0]}
    )
    return float(fit.params[0]), float(fit.bse[0])


def measure(folder: Path, questions: int, repeats: int) -> dict[str, Any]:
    """Time both on the same folder."""
    predictions, run = make_inputs(folder, questions), folder / "run"

    def score() -> dict[str, Any]:
        return judge_predictions(predictions, [TASK], "exact", run, data_dir=folder)

    start = time.perf_counter()
    score()
    first = time.perf_counter() - start
    ours: list[float] = []
    theirs: list[float] = []
    by_statsmodels(run)  # its imports are not what is measured
    for _ in range(repeats):
        (run / "results.json").unlink()
        start = time.perf_counter()
        figures = score()["tasks"][TASK]
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        mean, se = by_statsmodels(run)
        theirs.append(time.perf_counter() - start)
    return {
        "judgements": figures["n_scored"],
        "videos": figures["clusters"],
        "first_run_with_judging_s": round(first, 2),
        "seconds": [round(one, 2) for one in sorted(ours)],
        "median_s": round(statistics.median(ours), 2),
        "statsmodels_median_s": round(statistics.median(theirs), 2),
        "limit_s": LIMIT_S,
        "accuracy": figures["accuracy"],
        "statsmodels": {"value": mean, "se": se},
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the limit holds."""
    parser = argparse.ArgumentParser(description="Time from judgements to results.json.")
    parser.add_argument("--questions", type=int, default=72_821)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.questions, chosen.repeats)
    print(json.dumps(figures, indent=2))
    same = abs(figures["accuracy"]["se"] - figures["statsmodels"]["se"]) < 1e-9
    return 0 if same and figures["median_s"] < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
