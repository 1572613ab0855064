"""All that is to be measured on a GPU, one command, under ten minutes: DPO, SFT, candidates.

    python tests/benchmarks/bench_gpu.py [--layers 16]

Runs bench_dpo, bench_sft (both with gradient checkpointing) and bench_candidates one after the
other at Video-LLaVA-7B's shape with random weights in bfloat16, each in a process of its own, and
projects from what they measured the hours of the paper's DPO (17k pairs, 3 epochs, batch 128) and
SFT (240k questions on 80k clips) on 8 such GPUs. Where there is no GPU it says so and ends; the
same files run by themselves on a CPU at a smaller shape. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
LAYERS = 32
# Rows of the paper: preference pairs, and SFT's questions and answers.
PAIRS, EPOCHS = 17_000, 3
QUESTIONS = 240_000
GPUS = 8


def run(name: str, *flags: str) -> dict[str, Any]:
    """A benchmark's figures, or why it gave none."""
    command = [sys.executable, str(HERE / f"{name}.py"), *flags]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures | {"whole_seconds": round(time.monotonic() - start, 1)}


def hours(rows: float, rows_a_step: int, seconds: float) -> float:
    """Of `rows` on `GPUS` devices, each a step of `rows_a_step` in `seconds`."""
    from sharegptvideo.training.estimate import projected_hours

    return round(projected_hours(rows, 1, rows_a_step / seconds, GPUS), 2)


def main() -> int:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the 7B's 32")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here; run bench_dpo.py, bench_sft.py and bench_candidates.py")
        return 0
    shape = ["--device", "cuda", "--layers", str(options.layers), "--checkpointing"]
    figures: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "layers": options.layers,
        "dpo": run("bench_dpo", *shape, "--rounds", "3"),
        "sft": run("bench_sft", *shape, "--rounds", "3", "--no-memory"),
        "candidates": run("bench_candidates", "--device", "cuda", "--rounds", "2"),
    }
    if "failed" not in figures["dpo"]:
        spent = figures["dpo"]["seconds_a_step"]
        pairs = figures["dpo"]["pairs_a_step"]
        figures["dpo_hours_on_8"] = {
            way: hours(PAIRS * EPOCHS, pairs, seconds) for way, seconds in spent.items()
        }
    if "failed" not in figures["sft"]:
        sft = figures["sft"]
        questions = sft["clips_a_step"] * sft["questions_a_clip"]
        figures["sft_hours_on_8"] = {
            way: hours(QUESTIONS, questions, seconds)
            for way, seconds in sft["seconds_a_step"].items()
        }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
