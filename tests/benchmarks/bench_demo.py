"""The demo over several seeds: does DPO beat SFT on clips that neither has seen, and by how much?

    python tests/benchmarks/bench_demo.py [--seeds 5] [--scale small] [--out bench-demo]

Runs (or goes on with, or just reads) one demo a seed in OUT/seed-N and prints, for both test
sets, each seed's accuracy of SFT and DPO with the paired difference and its 95 % interval
clustered by video, then mean and spread over the seeds. The mark is the paper's gain of 8.1
points. SFT in the same run is the baseline.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from sharegptvideo.storage import read_json

PAPER = 8.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scale", default="small")
    parser.add_argument("--out", type=Path, default=Path("bench-demo"))
    chosen = parser.parse_args()
    summaries = [_demo(chosen.out / f"seed-{n}", n, chosen.scale) for n in range(chosen.seeds)]
    for name in ("test", "out_of_domain"):
        _print_set(name, summaries)
    seconds = [summary["seconds"]["total"] for summary in summaries]
    print(f"\nseconds: mean {statistics.mean(seconds):.0f}, largest {max(seconds):.0f}")
    print(f"peak memory: {max(summary['peak_memory_mib'] for summary in summaries)} MiB")
    agreement = [100 * summary["judge_agreement"] for summary in summaries]
    print(f"judge agrees with the exact state: {min(agreement):.1f} to {max(agreement):.1f} %")
    above = sum(summary["test"]["delta_ci95"][0] > 0 for summary in summaries)
    print(f"interval of the test gain above zero: {above} of {len(summaries)} seeds")
    return 0


def _demo(folder: Path, seed: int, scale: str) -> dict[str, Any]:
    """A demo in a process of its own, so that its time and memory are its own."""
    command = [sys.executable, "-m", "sharegptvideo", "demo", "--out", str(folder)]
    command += ["--seed", str(seed), "--scale", scale]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = read_json(folder / "summary.json")
    return found


def _print_set(name: str, summaries: list[dict[str, Any]]) -> None:
    print(f"\n{name}: accuracy in % by the exact state")
    print(f"{'seed':>4} {'SFT':>12} {'DPO':>12} {'difference':>22} {'p':>9} {'pairs':>6}")
    for summary in summaries:
        found = summary[name]
        low, high = (100 * bound for bound in found["delta_ci95"])
        models = (
            f"{100 * found[model]['accuracy']:6.1f} ± {100 * found[model]['se']:3.1f}"
            for model in ("sft", "dpo")
        )
        print(
            f"{summary['seed']:>4} {' '.join(models)} "
            f"{100 * found['delta']:+7.1f} [{low:+5.1f}, {high:+5.1f}] "
            f"{found['p_value']:9.1e} {summary['pairs']:>6}"
        )
    gains = [100 * summary[name]["delta"] for summary in summaries]
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    print(
        f"gain over {len(gains)} seeds: mean {statistics.mean(gains):+.1f}, standard deviation "
        f"{spread:.1f}, from {min(gains):+.1f} to {max(gains):+.1f} (paper: +{PAPER})"
    )


if __name__ == "__main__":
    raise SystemExit(main())
