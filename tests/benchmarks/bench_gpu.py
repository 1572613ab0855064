"""All that is to be measured on a GPU, in one command and within a budget, most valuable first.

    python tests/benchmarks/bench_gpu.py [--budget 540] [--layers 16] [--parts dpo ...]
    python tests/benchmarks/bench_gpu.py --device cpu --shape tiny --budget 120    # a rehearsal

At Video-LLaVA-7B's shape with random weights, gradient checkpointing on: a step of our DPO, the
shipped recipes as `train run` does them, DPO by TRL, SFT, candidates, features, the evaluation
against lmms-eval. Each part is a process of its own that ends before the next; it may take half of
what is left of the budget, or a minute where that is more.

Prints a line of JSON for each part as it ends: name, seconds, device, versions, its figures (those
of the benchmark of that name), and `failed` with the reason where it failed, was
cut, or was left out. Parts that print several lines have them passed on as they come. The last line
compares, and projects hours of the paper's DPO (17k pairs, 3 epochs) and SFT (240k questions on 80k
clips) on 8 such GPUs.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import bench_dpo
import bench_recipes
import bench_sft
import torch

from tests.support.child_runs import print_line, run_child
from tests.support.training_shapes import SHAPES, default_shape

HERE = Path(__file__).parent
LEAST = 5.0  # seconds: in less, no part gets as far as its first step
# Rows of the paper: preference pairs, and SFT's questions and answers.
PAIRS, EPOCHS = 17_000, 3
QUESTIONS = 240_000
GPUS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark with its flags; `way` is what `compared` of that benchmark knows it by."""

    name: str
    script: str
    flags: tuple[str, ...]
    way: str | None = None
    lacks: str | None = None


def parts(options: Any, work: Path) -> list[Part]:
    """All of them, the most valuable first."""
    place = ("--device", options.device)
    shape = (*place, "--shape", options.shape)
    layers = ("--layers", str(options.layers)) if options.layers else ()
    shape += layers
    media = ("--media", str(options.media)) if options.media else ()
    step = (*shape, *media, "--checkpointing", "--rounds", "3")

    def dpo(way: str) -> Part:
        return Part(f"dpo {way}", "bench_dpo", ("--way", way, *step), way)

    def sft(way: str) -> Part:
        return Part(f"sft {way}", "bench_sft", ("--way", way, *step), way)

    def recipe(name: str, *more: str) -> Part:
        flags = ("--recipes", name, "--work", str(work), *more, *shape, *media)
        lacks = bench_recipes.no_8bit(options.device) if "adamw_8bit" in more else None
        title = " ".join(("recipe", name, *more[1:]))
        return Part(title, "bench_recipes", flags, lacks=lacks)

    lmms = None if find_spec("lmms_eval") else "lmms-eval is not installed here"
    cuda = options.device.startswith("cuda")
    return [
        dpo("split"),
        *(recipe(name) for name in bench_recipes.RECIPES),
        recipe("llava_hound/dpo", "--optimizer", "adamw_8bit"),
        recipe("llava_hound/sft", "--optimizer", "adamw_8bit"),
        dpo("trl_precomputed"),
        sft("shared"),
        sft("trl"),
        Part("candidates", "bench_candidates", (*shape, "--rounds", "2")),
        dpo("trl"),
        dpo("dense"),
        *([dpo("flex")] if cuda else []),
        Part("features", "bench_features", (*shape, *media, "--rounds", "4")),
        Part(
            "evaluation",
            "bench_lmms_eval",
            ("--device", "cuda:0" if cuda else "cpu", *layers, "--theirs", "4"),
            lacks=lmms,
        ),
    ]


def versions() -> dict[str, str]:
    """Of Python and of the packages that are measured."""
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "trl", "peft", "bitsandbytes", "lmms-eval"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def run(part: Part, left: float, about: dict[str, Any]) -> dict[str, Any]:
    """Run a part, print its line, and return its figures; none where it did not end well."""
    line: dict[str, Any] = {"part": part.name}
    if part.lacks or left < LEAST:
        reason = part.lacks or f"left out: {max(left, 0):.0f} s are left of the budget"
        print_line(line | {"failed": reason, "seconds": 0.0, **about})
        return {}
    outcome = run_child(
        [str(HERE / f"{part.script}.py"), *part.flags],
        limit=min(left, max(60.0, left / 2)),
        on_line=lambda found: print_line(line | {"so_far": found}),
    )
    reported = outcome.figures.get("measured", outcome.figures).get("device")
    line |= {"seconds": outcome.seconds, **about, "figures": outcome.figures}
    line |= {"device": reported} if reported else {}
    print_line(line | ({"failed": outcome.failed} if outcome.failed else {}))
    return {} if outcome.failed else outcome.figures


def hours(rows: float, rows_a_step: int, seconds: float) -> float:
    """Of `rows` on `GPUS` devices, each a step of `rows_a_step` in `seconds`."""
    from sharegptvideo.training.estimate import projected_hours

    return round(projected_hours(rows, 1, rows_a_step / seconds, GPUS), 2)


def compared(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """What follows from all parts together. `found`: figures by benchmark and way."""
    dpo, sft = found["bench_dpo"], found["bench_sft"]
    return {
        "dpo": bench_dpo.compared(dpo),
        "sft": bench_sft.compared(sft),
        "dpo_hours_on_8": {
            way: hours(PAIRS * EPOCHS, each["pairs_a_step"], each["seconds_a_step"])
            for way, each in dpo.items()
        },
        "sft_hours_on_8": {
            way: hours(
                QUESTIONS, each["clips_a_step"] * each["questions_a_clip"], each["seconds_a_step"]
            )
            for way, each in sft.items()
        },
    }


def main() -> int:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=540, help="seconds for all parts")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--layers", type=int, help="of the shape's language model, at most")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--parts", nargs="+", help="only those whose names begin so")
    options = parser.parse_args()
    options.shape = options.shape or default_shape(options.device)
    if options.device != "cpu" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --shape tiny rehearses all of it")
        return 0
    end = time.monotonic() + options.budget
    about = {"device": options.device, "versions": versions()}
    found: dict[str, dict[str, dict[str, Any]]] = {"bench_dpo": {}, "bench_sft": {}}
    with tempfile.TemporaryDirectory(dir=bench_recipes.roomiest()) as name:
        for part in parts(options, Path(name)):
            if options.parts and not part.name.startswith(tuple(options.parts)):
                continue
            figures = run(part, end - time.monotonic(), about)
            if part.way and figures:
                found[part.script][part.way] = figures
    print_line({"part": "all", **about, "figures": compared(found)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
