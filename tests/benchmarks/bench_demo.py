"""The demo over several seeds: does DPO beat SFT on clips that neither has seen, at what cost?

    python tests/benchmarks/bench_demo.py [--seeds 10] [--scale small] [--out bench-demo] [--jobs 2]

Runs (or goes on with, or just reads) one demo a seed in OUT/seed-N, `--jobs` at a time, and prints,
for both test sets, each seed's accuracy of SFT and DPO by the exact state with the paired
difference and its 95 % interval clustered by video, the difference by the judge of captions and, as
a measure that reads nothing, by letter-for-letter equality with the reference, the answers of DPO
that contradict themselves, and the questions right with SFT and wrong with DPO, in
% of all; then mean, spread and worst over the seeds, and whether the marks are met: every gain at
least the paper's 8.1 points with its interval above zero, contradictions under 2 %, losses at most
3 %, a mean gain of at least 15 points. SFT in the same run is the baseline.

Last, by kind of question, what the model sees before DPO: the share of its answers that are right
about what was asked, invented details left out of account, against the best blind guess (which
knows the wording and never sees the clip); and, as a measure that reads nothing, the share that
begins with the reference, letter for letter; and the share that is right where the same clips stand
still at their first frame, which tells how much of it is motion. The mark is 20 points above the
guess for direction, change and order on the test clips, in every seed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.demo.exact_state import ExactStateJudge
from sharegptvideo.eval import run_evaluation
from sharegptvideo.media import sample_frames
from sharegptvideo.reports.demo.comparison import SETS
from sharegptvideo.synthetic import KINDS, check_answer, load_questions
from sharegptvideo.synthetic.render import FRAMES, write_mp4

PAPER = 8.1
MEAN, CONTRADICTIONS, LOST = 15.0, 2.0, 3.0
SEEN, MOVING = 20.0, ("direction", "change", "order")

Summary = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--scale", default="small")
    parser.add_argument("--out", type=Path, default=Path("bench-demo"))
    parser.add_argument("--jobs", type=int, default=2, help="demos at a time")
    chosen = parser.parse_args()
    folders = [(chosen.out / f"seed-{n}", n, chosen.scale) for n in range(chosen.seeds)]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        summaries = list(pool.map(lambda one: _demo(*one), folders))
    for name in ("test", "out_of_domain"):
        _print_set(name, summaries)
    for name in ("test", "out_of_domain"):
        _print_seen(name, summaries)
    seconds = [summary["seconds"]["total"] for summary in summaries]
    print(
        f"\nseconds, {chosen.jobs} at a time: mean {statistics.mean(seconds):.0f}, "
        f"largest {max(seconds):.0f}"
    )
    print(f"peak memory: {max(summary['peak_memory_mib'] for summary in summaries)} MiB")
    agreement = [100 * summary["judge_agreement"] for summary in summaries]
    print(f"judge agrees with the exact state: {min(agreement):.1f} to {max(agreement):.1f} %")
    return 0


def _demo(folder: Path, seed: int, scale: str) -> Summary:
    """Run a demo in a process of its own, so that its time and memory are its own."""
    command = [sys.executable, "-m", "sharegptvideo", "demo", "--out", str(folder)]
    command += ["--seed", str(seed), "--scale", scale]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: Summary = read_json(folder / "summary.json")
    questions = load_questions(folder / "datasets" / "world")
    for name, task in SETS.items():
        equal = {
            model: [
                row["prediction"] == questions[row["id"]]["answer"]
                for _, row in read_jsonl(folder / "runs" / model / "predictions.jsonl")
                if row["task"] == task
            ]
            for model in ("sft", "dpo")
        }
        found[name]["equal"] = statistics.mean(equal["dpo"]) - statistics.mean(equal["sft"])
        begins: dict[str, list[bool]] = {}
        for _, row in read_jsonl(folder / "runs" / "sft" / "predictions.jsonl"):
            if row["task"] == task:
                asked = questions[row["id"]]
                same = row["prediction"].startswith(asked["answer"].removesuffix("."))
                begins.setdefault(asked["kind"], []).append(same)
        for kind, values in begins.items():
            found[name]["kinds"][kind]["begins"] = statistics.mean(values)
    still = _seen_in_still_clips(folder)
    for kind, share in still.items():
        found["test"]["kinds"][kind]["still"] = share
    return found


def _seen_in_still_clips(folder: Path) -> dict[str, float]:
    """Ask SFT's model about the test clips, each its first frame alone; share right by kind."""
    world, out = folder / "datasets" / "world", folder / "still"
    (out / "videos").mkdir(parents=True, exist_ok=True)
    for stem in read_json(world / "splits.json")["test"]:
        clip = out / "videos" / f"{stem}.mp4"
        if not clip.exists():
            first = sample_frames(world / "videos" / clip.name, 1).frames
            write_mp4(np.repeat(first, FRAMES, axis=0), clip)
    task, run = SETS["test"], out / "run"
    model, judge = f"hf:{folder / 'models' / 'sft'}", ExactStateJudge(world)
    run_evaluation(model, (task,), judge, run, data_dir=world, media=out, max_new_tokens=32)
    questions = load_questions(world)
    right: dict[str, list[bool]] = {}
    for _, row in read_jsonl(run / "predictions.jsonl"):
        asked = questions[row["id"]]
        answered = check_answer(asked, row["prediction"], ignore_things=True).right
        right.setdefault(asked["kind"], []).append(answered)
    return {kind: statistics.mean(values) for kind, values in right.items()}


def _print_set(name: str, summaries: Sequence[Summary]) -> None:
    print(f"\n{name}: % of the questions, by the exact state")
    print(
        f"{'seed':>4} {'SFT':>12} {'DPO':>12} {'difference':>22} {'p':>9} {'judge':>6} "
        f"{'equal':>6} {'contradict':>10} {'lost':>5} {'pairs':>6}"
    )
    for summary in summaries:
        found = summary[name]
        low, high = (100 * bound for bound in found["delta_ci95"])
        models = (
            f"{100 * found[model]['accuracy']:6.1f} ± {100 * found[model]['se']:3.1f}"
            for model in ("sft", "dpo")
        )
        print(
            f"{summary['seed']:>4} {' '.join(models)} "
            f"{100 * found['delta']:+7.1f} [{low:+5.1f}, {high:+5.1f}] {found['p_value']:9.1e} "
            f"{100 * found['judged']['delta']:+6.1f} {100 * found['equal']:+6.1f} "
            f"{100 * found['contradictions']['dpo']:10.1f} {100 * found['lost']['share']:5.1f} "
            f"{summary['pairs']:>6}"
        )
    gains = [100 * summary[name]["delta"] for summary in summaries]
    judged = [100 * summary[name]["judged"]["delta"] for summary in summaries]
    contradictions = [100 * summary[name]["contradictions"]["dpo"] for summary in summaries]
    lost = [100 * summary[name]["lost"]["share"] for summary in summaries]
    above = sum(summary[name]["delta_ci95"][0] > 0 for summary in summaries)
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    n = len(summaries)
    print(
        f"gain: mean {statistics.mean(gains):+.1f} (mark {MEAN:+.0f}), standard deviation "
        f"{spread:.1f}, worst {min(gains):+.1f} (mark +{PAPER}, the paper's), best "
        f"{max(gains):+.1f}; {sum(gain >= PAPER for gain in gains)} of {n} at the mark, interval "
        f"above zero in {above} of {n}"
    )
    equal = [100 * summary[name]["equal"] for summary in summaries]
    apart = max(abs(one - other) for one, other in zip(gains, equal, strict=True))
    print(
        f"gain by the judge of captions: mean {statistics.mean(judged):+.1f}; by equality with the "
        f"reference: mean {statistics.mean(equal):+.1f}, at most {apart:.1f} from the exact state's"
    )
    print(
        f"contradictions: mean {statistics.mean(contradictions):.1f}, worst "
        f"{max(contradictions):.1f} (mark under {CONTRADICTIONS:g}), met in "
        f"{sum(value < CONTRADICTIONS for value in contradictions)} of {n}"
    )
    print(
        f"right before and wrong after: mean {statistics.mean(lost):.1f}, worst {max(lost):.1f} "
        f"(mark at most {LOST:g}), met in {sum(value <= LOST for value in lost)} of {n}"
    )


def _print_seen(name: str, summaries: Sequence[Summary]) -> None:
    print(f"\n{name}: what SFT's model sees, % of the questions of a kind, mean of the seeds")
    print(
        f"{'kind':>10} {'n':>6} {'guess':>6} {'still':>6} {'clean':>6} {'begins':>6} {'above':>6} "
        f"{'worst':>6} "
        f"{'its 95 %':>14}"
    )
    for kind in KINDS:
        found = [one[name]["kinds"][kind] for one in summaries if kind in one[name]["kinds"]]
        if not found:
            continue
        clean = [100 * one["sft_clean"]["value"] for one in found]
        chance = [100 * one["chance"] for one in found]
        begins = [100 * one["begins"] for one in found]
        still = [100 * one["still"] for one in found if "still" in one]
        above = [value - guess for value, guess in zip(clean, chance, strict=True)]
        worst = above.index(min(above))
        ends = found[worst]["sft_clean"]["ci95"]
        low, high = (100 * end - chance[worst] for end in ends) if ends else (above[worst],) * 2
        mark = ""
        if kind in MOVING and name == "test":
            met = sum(value >= SEEN for value in above)
            mark = f"  mark {SEEN:+.0f}, met in {met} of {len(above)}"
        print(
            f"{kind:>10} {sum(one['n'] for one in found):>6} {statistics.mean(chance):6.1f} "
            f"{f'{statistics.mean(still):.1f}' if still else '':>6} "
            f"{statistics.mean(clean):6.1f} {statistics.mean(begins):6.1f} "
            f"{statistics.mean(above):+6.1f} {above[worst]:+6.1f} [{low:+5.1f}, {high:+5.1f}]{mark}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
