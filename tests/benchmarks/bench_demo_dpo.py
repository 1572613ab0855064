"""The demo's DPO with changed settings: what each gains and loses, on demos that are there.

    python tests/benchmarks/bench_demo_dpo.py [DEMO...] [--change "dpo.sft_weight=0"] [--change ...]

For each DEMO (a folder of `sharegptvideo demo`; those of bench_demo.py unless given) and each
change (`key=value` of the recipe demo/dpo, parted by blanks; unless given: no SFT term, and the SFT
term alone) it trains on the demo's
SFT model and pairs, answers the test questions, and prints a line: accuracy of SFT and of the
changed DPO in % by the exact state, the paired difference with its 95 % interval, answers that
contradict themselves, and questions right before and wrong after, in % of all; the same difference
out of domain. The demo's own DPO is the baseline, in a line of its own. `--rounds 2` trains a
second time, on answers of the first round's model. Everything goes to a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json
from sharegptvideo.build import make_pairs, sample_candidates, score_candidates
from sharegptvideo.data.load import read_rows
from sharegptvideo.demo.exact_state import ExactStateJudge
from sharegptvideo.eval import judge_predictions, run_evaluation
from sharegptvideo.judges import open_judge
from sharegptvideo.reports.demo.comparison import SETS, compare_models
from sharegptvideo.training import DpoRecipe, load_recipe, run_dpo

MAX_NEW_TOKENS = 32
# With almost no β the preference has almost no gradient.
DEFAULT = ("dpo.sft_weight=0", "dpo.beta=0.0001")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", type=Path, nargs="*", metavar="DEMO")
    parser.add_argument("--change", action="append", default=[], metavar='"KEY=VALUE ..."')
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    demos = chosen.demos or sorted(Path("bench-demo").glob("seed-*"))
    if not demos:
        parser.error("no demo given, and none in bench-demo; run bench_demo.py first")
    for demo in demos:
        seed = int(read_json(demo / "demo.json")["seed"])
        _print(seed, "the demo's own", compare_models(demo / "runs", demo / "datasets" / "world"))
        for change in chosen.change or DEFAULT:
            with tempfile.TemporaryDirectory() as folder:
                found = _changed(demo, Path(folder), seed, change.split(), chosen.rounds)
            _print(seed, change or "nothing changed", found)
    return 0


def _changed(
    demo: Path, out: Path, seed: int, change: Sequence[str], rounds: int
) -> dict[str, Any]:
    world, model, pairs = demo / "datasets" / "world", demo / "models" / "sft", demo
    for number in range(1, rounds + 1):
        pairs = demo / "datasets" / "preferences" if number == 1 else out / f"pairs-{number}"
        if number > 1:
            _make_pairs(world, model, pairs, seed + 100 * number)
        trained = out / f"model-{number}"
        places = (f"model={model}", f"output={trained}", f"data.data_dir={pairs}")
        recipe = load_recipe("demo/dpo", [*places, f"data.media={world}", f"seed={seed}", *change])
        assert isinstance(recipe, DpoRecipe)
        run_dpo(recipe)
        model = trained
    runs, tasks = out / "runs", tuple(SETS.values())
    run_evaluation(
        f"hf:{model}",
        tasks,
        "answer-match",
        runs / "dpo",
        data_dir=world,
        media=world,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    # SFT's answers are judged anew: a demo may be older than the rules.
    sft = demo / "runs" / "sft" / "predictions.jsonl"
    judge_predictions(sft, tasks, "answer-match", runs / "sft", data_dir=world)
    exact = ExactStateJudge(world)
    for name, file in (("sft", sft), ("dpo", runs / "dpo" / "predictions.jsonl")):
        judge_predictions(file, tasks, exact, runs / f"{name}-exact", data_dir=world)
    return compare_models(runs, world)


def _make_pairs(world: Path, model: Path, out: Path, seed: int) -> None:
    rows = read_rows("qa", data_dir=world, split="train", media=world)
    sample_candidates(rows, model, out, k=6, seed=seed, max_new_tokens=MAX_NEW_TOKENS)
    score_candidates(out, open_judge("answer-match"), out)
    make_pairs(out, out, seed=seed)


def _print(seed: int, what: str, found: dict[str, Any]) -> None:
    test, other = found["test"], found["out_of_domain"]
    low, high = (100 * end for end in test["delta_ci95"])
    print(
        f"seed {seed}: SFT {100 * test['sft']['accuracy']:.1f}, "
        f"DPO {100 * test['dpo']['accuracy']:.1f}, {100 * test['delta']:+.1f} "
        f"[{low:+.1f}, {high:+.1f}], contradictions {100 * test['contradictions']['dpo']:.1f}, "
        f"lost {100 * test['lost']['share']:.1f}; "
        f"out of domain {100 * other['delta']:+.1f} ({what})",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
