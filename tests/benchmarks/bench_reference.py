"""DPO with its reference in memory, computed before training, and found in the cache.

    python tests/benchmarks/bench_reference.py [--pairs 8] [--epochs 2]

Whole trainings as `train run` does them, each in a process of its own: LLaVA-Hound's shape (2,056
video tokens), on a CPU with a language model of about 20 million parameters, each pair on a clip of
its own, sharing on in all.

Prints a line of JSON for each as it ends: seconds, seconds until the reference was computed, the
last loss and peak memory. Then a line that compares: the size of the model, what leaving the
reference out of memory saves, and how far the last losses are apart, beside the first loss.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from sharegptvideo.training import trainers as _  # noqa: F401 - into the baseline of memory
from tests.support.child_runs import Peak, print_line, run_child
from tests.support.made_release import write_release
from tests.support.training_shapes import SHAPES, build_shape, default_shape

WAYS = {"model": "model", "precomputed": "precomputed", "found": "precomputed"}


def one(overrides: list[str]) -> None:
    """Train, and print what it took."""
    from sharegptvideo.training import load_recipe, run_recipe

    peak = Peak(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    filled = [0.0]
    start = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        if what.startswith("reference") and done == total:
            filled[0] = time.monotonic() - start

    result = run_recipe(load_recipe("demo/dpo", overrides), progress=progress)
    print_line(
        {
            "seconds": round(result.seconds, 2),
            "until_reference_s": round(filled[0], 2),
            "first_loss": result.log[0]["loss"],
            "loss": result.loss,
            **peak.figures(),
        }
    )


def overrides_of(way: str, folder: Path, epochs: int) -> list[str]:
    """The recipe `demo/dpo` on the model and the pairs in `folder`."""
    return [
        f"model={folder / 'model'}",
        f"output={folder / ('out-' + way)}",
        f"data.data_dir={folder / 'data'}",
        f"data.media={folder / 'data'}",
        "data.split=train+validation",
        f"optimisation.epochs={epochs}",
        "optimisation.max_steps=null",
        "optimisation.per_device_batch_size=1",
        "optimisation.max_length=4096",
        "frames=8",
        "log_every=1",
        f"dpo.reference={WAYS[way]}",
    ]


def measure(options: Any, folder: Path) -> int:
    """Train each way and print; returns how many failed."""
    place = "cuda" if torch.cuda.is_available() else "cpu"
    shape = options.shape or default_shape(place)
    made = run_child([__file__, "--build", str(folder / "model"), "--shape", shape])
    if made.failed:
        print_line({"way": "model to start from", "failed": made.failed})
        return 1
    write_release(folder / "data", "preferences", options.pairs, options.media)
    found: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        outcome = run_child([__file__, "--one", *overrides_of(way, folder, options.epochs)])
        line = {"way": way, "pairs": options.pairs, "epochs": options.epochs, "shape": shape}
        if outcome.failed:
            print_line(line | {"failed": outcome.failed})
            continue
        found[way] = outcome.figures
        print_line(line | outcome.figures)
    if len(found) == len(WAYS):
        size = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))
        saved = found["model"]["peak_mib"] - found["found"]["peak_mib"]
        print_line(
            {
                "model_mib": round(size / 2**20, 1),
                "peak_saved_mib": round(saved, 1),
                "losses_apart": abs(found["model"]["loss"] - found["precomputed"]["loss"]),
                "first_loss": found["model"]["first_loss"],
                "last_loss": found["model"]["loss"],
            }
        )
    return len(WAYS) - len(found)


def main() -> int:
    """Measure each way and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--build", type=Path, help="make the model, in this process")
    parser.add_argument("--one", nargs="+", help="overrides of one training, in this process")
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return 0
    if options.build:
        place = "cuda" if torch.cuda.is_available() else "cpu"
        build_shape(options.shape, options.build, device=place)
        return 0
    with tempfile.TemporaryDirectory() as name:
        return int(measure(options, Path(name)) > 0)


if __name__ == "__main__":
    sys.exit(main())
