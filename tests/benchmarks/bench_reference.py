"""DPO with its reference in memory, computed before training, and found in the cache.

    python tests/benchmarks/bench_reference.py [--pairs 8] [--epochs 2]

Whole trainings as `train run` does them, each in a process of its own: LLaVA-Hound's shape (2,056
video tokens) on a CPU with a language model of 23 million parameters, sharing on in all. Prints one
JSON object: seconds and peak MiB (the process's resident memory) of each way, what computing the
reference takes of it, the size of the reference model, and how far the last losses are apart.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from training_shapes import CPU_SIZE, video_rows

from sharegptvideo.modeling import build_tiny
from sharegptvideo.storage import write_jsonl

WAYS = {"model": "model", "precomputed": "precomputed", "found": "precomputed"}
_WORDS = ("a", "man", "in", "red", "walks", "his", "dog", "along", "the", "river", "and", "looks")


def release(folder: Path, pairs: int) -> Path:
    """Preference pairs on the shared clips, in the release's layout."""
    draw = random.Random(0)
    rows = []
    (folder / "videos").mkdir(parents=True)
    for number, path in enumerate(video_rows(pairs, draw, folder)):
        stem = f"clip{number}"
        target = Path(path)
        suffix = "" if target.is_dir() else target.suffix
        (folder / "videos" / f"{stem}{suffix}").symlink_to(target)
        said = [" ".join(draw.choices(_WORDS, k=25)) for _ in range(3)]
        rows.append(
            {
                "id": f"{stem}_p",
                "video": stem,
                "prompt": f"What happens when {said[0]}?",
                "answer": said[1],
                "chosen": said[1],
                "chosen_score": 5,
                "rejected": said[2],
                "rejected_score": 1,
            }
        )
    write_jsonl(folder / "video_instruction" / "train" / "dpo" / "sft_dpo_17k.jsonl", rows)
    return folder


def one(overrides: list[str]) -> None:
    """Train, and print what it took."""
    from sharegptvideo.training import load_recipe, run_recipe

    filled = [0.0]
    start = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        if what.startswith("reference") and done == total:
            filled[0] = time.monotonic() - start

    recipe = load_recipe("demo/dpo", overrides)
    result = run_recipe(recipe, progress=progress)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "seconds": round(result.seconds, 2),
                "peak_mib": round(peak, 1),
                "loss": result.loss,
                "until_reference_s": round(filled[0], 2),
            }
        )
    )


def main() -> int:
    """Measure each way and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--one", nargs="+", help="overrides of one training")
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return 0
    figures: dict[str, Any] = {"pairs": options.pairs, "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build_tiny([" ".join(_WORDS)] * 3, folder / "model", seed=0, size=CPU_SIZE)
        data = release(folder / "data", options.pairs)
        for way, reference in WAYS.items():
            overrides = [
                f"model={model}",
                f"output={folder / ('out-' + way)}",
                f"data.source={data}",
                f"data.media={data}",
                "data.split=train+validation",
                f"optimisation.epochs={options.epochs}",
                "optimisation.max_steps=null",
                "optimisation.per_device_batch_size=1",
                "optimisation.max_length=4096",
                "frames=8",
                "log_every=1",
                f"dpo.reference={reference}",
            ]
            command = [sys.executable, __file__, "--one", *overrides]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures[way] = json.loads(done.stdout.strip().splitlines()[-1])
        size = (folder / "model" / "model.safetensors").stat().st_size
    figures["model_mib"] = round(size / 2**20, 1)
    figures["peak_saved_mib"] = round(
        figures["model"]["peak_mib"] - figures["found"]["peak_mib"], 1
    )
    figures["loss_apart"] = abs(figures["model"]["loss"] - figures["precomputed"]["loss"])
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
