"""Steps of the shipped recipes as `train run` does them, beside what `--dry-run` predicts.

    python tests/benchmarks/bench_recipes.py [--device cuda] [--steps 3] [--optimizer adamw_8bit]

`llava_hound/dpo`, `sft` and `dpo_lora` as they are, but for: a model of the 7B's shape with random
weights, generated rows on clips of their own (one a pair, one for three questions; none about
images), at most four batches accumulated in a step, and so many layers as memory and disk hold by
the dry run's own estimate (fewer where they do not hold them after all). For each recipe one
process makes the checkpoint, `sharegptvideo train run --dry-run --json` predicts, and one more
trains; it ends after the measured steps, before anything is saved.

Prints a line of JSON for the prediction, for each step as it ends, and for each recipe at its end:
seconds a step (the first step is not counted) and peak memory, measured and predicted, the share of
the GPU's peak reached, how often a layer ran for a batch (2: checkpointing is on), seconds of what
comes before the first step. On a CPU the prediction is for an H100 and only shows that the command
runs. A recipe that cannot be measured says why: `left_out`, `failed`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from sharegptvideo.training import load_recipe
from sharegptvideo.training.estimate import Rate, work_of
from sharegptvideo.training.gpus import parse_gpus
from sharegptvideo.training.recipes import Recipe
from tests.support.child_runs import Outcome, Peak, print_line, run_child
from tests.support.gpu_figures import rate_row
from tests.support.made_release import write_release
from tests.support.training_shapes import (
    SHAPES,
    build_shape,
    default_shape,
    device_name,
    outline_7b,
)

RECIPES = ["llava_hound/dpo", "llava_hound/sft", "llava_hound/dpo_lora"]
ACCUMULATION = 4
LAYERS = {"7b": (32, 28, 24, 20, 16, 12, 8, 4, 2)}
TRIED = 3  # numbers of layers, the next where memory did not hold the one before
ROOM = 0.92  # of a GPU's memory, for what its driver and fragments take


class _EnoughError(Exception):
    """All steps that are measured are done."""


class Steps:
    """Looks on at a training: when its steps end, and how often layers run in them."""

    def __init__(self, count: int, place: torch.device) -> None:
        self.count, self.place, self.peak = count, place, Peak(place)
        self.start = time.perf_counter()
        self.ends: list[float] = []
        self.passes: list[float] = []
        self.calls = {"LlamaDecoderLayer": 0, "LlamaAttention": 0}
        torch.nn.modules.module.register_module_forward_pre_hook(self._seen)

    def _seen(self, module: torch.nn.Module, _inputs: Any) -> None:
        # Attention is computed again with its layer; the layer's own call is outside of that.
        name = type(module).__name__
        if name in self.calls:
            self.calls[name] += 1

    def progress(self, done: int, _total: int, what: str) -> None:
        """Take down a step; the first one ends what is not measured."""
        if not what.startswith("training"):
            self.calls = dict.fromkeys(self.calls, 0)  # the reference's are no step's
            return
        if self.place.type == "cuda":
            torch.cuda.synchronize(self.place)
        self.ends.append(time.perf_counter())
        self.passes.append(self.calls["LlamaAttention"] / self.calls["LlamaDecoderLayer"])
        self.calls = dict.fromkeys(self.calls, 0)
        if done == 1:
            self.peak.restart()
            self.ends[0] = time.perf_counter()
        else:
            seconds = round(self.ends[-1] - self.ends[-2], 4)
            print_line({"step": done, "seconds": seconds, **self.peak.figures()})
        if done > self.count:
            raise _EnoughError

    def figures(self) -> dict[str, Any]:
        """Seconds, passes and memory."""
        seconds = [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]
        return {
            "device": device_name(self.place),
            "steps": len(seconds),
            "seconds_a_step": round(statistics.median(seconds), 4),
            "seconds_range": [round(min(seconds), 4), round(max(seconds), 4)],
            "until_first_step_ended_s": round(self.ends[0] - self.start, 1),
            "layer_passes_a_batch": self.passes[-1],
            **self.peak.figures(),
        }


def train(name: str, overrides: list[str], steps: int, device: str) -> dict[str, Any]:
    """Train in this process for `steps` steps behind the first."""
    from sharegptvideo.training import run_recipe
    from sharegptvideo.training import trainers as _  # noqa: F401 - into the baseline of memory

    look = Steps(steps, torch.device(device))
    recipe = load_recipe(name, overrides)
    with contextlib.suppress(_EnoughError):
        run_recipe(recipe, progress=look.progress)
    figures = look.figures()
    again = recipe.optimisation.gradient_checkpointing
    if isinstance(again, bool):  # else some layers run again, and some do not
        assert figures["layer_passes_a_batch"] == 1 + again, (figures, again)
    return figures


def overrides_of(name: str, options: Any, model: Path, data: Path) -> list[str]:
    """What is changed in a recipe, and why it has to be is in this module's first lines."""
    shipped = load_recipe(name)
    accumulated = min(shipped.optimisation.gradient_accumulation, ACCUMULATION)
    optimizer = options.optimizer or shipped.optimisation.optimizer
    return [
        f"model={model}",
        f"output={options.work / 'out' / name / optimizer / model.name}",
        "data.mix=null",
        f"data.name={shipped.data.parts[-1].name}",
        f"data.data_dir={data}",
        f"data.media={data}",
        "optimisation.epochs=null",
        f"optimisation.max_steps={options.steps + 1}",
        f"optimisation.gradient_accumulation={accumulated}",
        f"optimisation.optimizer={optimizer}",
        "save_every=1000000",
        "log_every=1",
        "report_to=[]",
    ]


def data_of(recipe: Recipe, options: Any) -> Path:
    """Rows for all steps, none of them twice; made once for all recipes that take as many."""
    o = recipe.optimisation
    accumulated = min(o.gradient_accumulation, ACCUMULATION)
    rows = o.per_device_batch_size * accumulated * (options.steps + 1)
    name = recipe.data.parts[-1].name
    folder: Path = options.work / f"{name}-{rows}"
    if not folder.is_dir():
        write_release(folder, name, rows, options.media)
    return folder


def build(options: Any, layers: int | None) -> Path | Outcome:
    """A checkpoint made by a process of its own, or one that is there; or why there is none."""
    folder: Path = options.work / f"model-{options.shape}-{layers or 'all'}"
    if (folder / "whole").is_file():
        return folder
    flags = ["--build", str(folder), "--shape", options.shape, "--device", options.device]
    outcome = run_child([__file__, *flags, *(["--layers", str(layers)] if layers else [])])
    return outcome if outcome.failed else folder


def fitting(name: str, options: Any, data: Path) -> list[int | None]:
    """Numbers of layers to try, the most that should fit first; None for a shape as it is."""
    if options.shape not in LAYERS:
        return [None]
    from sharegptvideo.training.plan import dry_run

    counts = [n for n in LAYERS[options.shape] if n <= (options.layers or n)]
    memory = torch.cuda.get_device_properties(0).total_memory
    found = []
    for layers in counts:
        with tempfile.TemporaryDirectory() as folder:
            outline = Path(folder) / "model"
            outline_7b(outline, layers)
            plan = dry_run(load_recipe(name, overrides_of(name, options, outline, data)))
        weights = 2 * plan.shape.parameters if plan.shape else 0  # the checkpoint itself, in bf16
        fits = plan.memory and plan.memory[0].total <= ROOM * memory
        if fits and plan.disk is not None and plan.disk + weights <= plan.disk_free:
            found.append(layers)
        if len(found) == TRIED:
            break
    return found or counts[-1:]


def predicted(name: str, overrides: list[str], device: str) -> dict[str, Any]:
    """What the command line's dry run says of a step: seconds, memory, and what would stop it."""
    command = [sys.executable, "-m", "sharegptvideo", "train", "run", name, *overrides]
    command += ["--dry-run", "--json", *(["--gpus", "1xH100"] if device == "cpu" else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    plan, memory = found["plan"], found["memory"][0]
    of_steps = plan["flops"] - plan["reference_flops"]
    figures = {
        "gpus": found["gpus"],
        "teraflops_a_step": float(f"{of_steps / plan['steps'] / 1e12:.4g}"),
        "rows_a_step": plan["rows_a_step"],
        "tokens_a_step": plan["tokens_shared"],
        "total_mib": round(memory["total"] / 2**20),
        "parts_mib": {
            part: round(memory[part] / 2**20)
            for part in ("weights", "gradients", "optimizer", "checkpointed", "kept")
        },
        "problems": found["problems"],
        "work": work_of(found["recipe"]["stage"], lora=bool(found["shape"]["adapters"])),
        "parameters": found["shape"]["parameters"],
        "recomputes": bool(found["recipe"]["optimisation"]["gradient_checkpointing"]),
    }
    if found["hours"] is not None:
        share = of_steps / plan["flops"]
        for name, hours in zip(("fewest", "most"), found["hours"], strict=True):
            seconds = hours * 3600 * share / plan["steps"]
            figures[f"{name}_seconds_a_step"] = float(f"{seconds:.4g}")
    return figures


def measure(name: str, options: Any) -> dict[str, Any]:
    """One recipe: its checkpoint, its prediction, its steps."""
    recipe = load_recipe(name)
    about: dict[str, Any] = {
        "recipe": name,
        "shape": options.shape,
        "optimizer": options.optimizer or recipe.optimisation.optimizer,
    }
    if about["optimizer"] == "adamw_8bit" and (reason := no_8bit(options.device)):
        return about | {"left_out": reason}
    data = data_of(recipe, options)
    for layers in fitting(name, options, data):
        model = build(options, layers)
        if isinstance(model, Outcome):
            return about | {"layers": layers, "failed": f"checkpoint: {model.failed}"}
        overrides = overrides_of(name, options, model, data)
        about |= {
            "layers": layers or SHAPES[options.shape].text_layers,
            "predicted": predicted(name, overrides, options.device),
        }
        flags = ["--steps", str(options.steps), "--device", options.device]
        print_line(about)
        command = [__file__, "--train", name, *flags, "--", *overrides]
        outcome = run_child(command, on_line=print_line)
        if outcome.failed and "out of memory" in outcome.failed.lower():
            print_line(about | {"failed": outcome.failed, "then": "fewer layers"})
            continue
        if outcome.failed:
            return about | {"failed": outcome.failed}
        return about | {"measured": outcome.figures} | against(about["predicted"], outcome.figures)
    return about | {"failed": "out of memory with the fewest layers that were tried"}


def against(plan: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Measured by predicted, where both are about the same device."""
    if "failed" in plan or found["device"].startswith("cpu"):
        return {"compared": "the prediction is for another device"}
    reached = plan["teraflops_a_step"] / found["seconds_a_step"]
    figures = {
        "teraflops_reached": round(reached, 1),
        # The prediction's total has the driver's and the kernels' GiB, which torch does not count.
        "memory_measured_by_predicted": round(found["peak_mib"] / (plan["total_mib"] - 1024), 3),
    }
    if "most_seconds_a_step" in plan:
        ratio = found["seconds_a_step"] / plan["most_seconds_a_step"]
        figures["seconds_measured_by_predicted"] = round(ratio, 3)
    return figures | rate_of(plan, reached)


def rate_of(plan: dict[str, Any], reached: float) -> dict[str, Any]:
    """The share of the GPUs' peak, and a row for `MEASURED_RATES` of `training/estimate.py`."""
    gpus = parse_gpus(plan["gpus"].replace(" ", "")) if plan["gpus"] else None
    if gpus is None:
        return {}
    share = round(reached / (gpus.count * gpus.gpu.teraflops), 3)
    work, name = plan["work"], gpus.gpu.name
    rate = Rate(
        work, name, plan["parameters"], plan["recomputes"], share, share, True, "bench_recipes.py"
    )
    return {"utilisation_reached": share, "rate": rate_row(rate)}


def no_8bit(device: str) -> str | None:
    """Why the optimiser in 8 bits cannot be measured here; None: it can."""
    if device == "cpu":
        return "adamw_8bit needs a GPU"
    return None if find_spec("bitsandbytes") else "bitsandbytes is not installed"


def roomiest() -> Path:
    """The temporary folder with the most room: on the disk, or in memory."""
    places = [Path(tempfile.gettempdir()), Path("/dev/shm")]
    writable = [place for place in places if place.is_dir() and os.access(place, os.W_OK)]
    return max(writable, key=lambda place: os.statvfs(place).f_bavail * os.statvfs(place).f_frsize)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--layers", type=int, help="of a 7B's 32, at most")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--optimizer", choices=["adamw", "adamw_8bit"], help="default: as shipped")
    parser.add_argument("--steps", type=int, default=3, help="measured, behind a first one")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--work", type=Path, help="keep models and rows here, for the next call")
    parser.add_argument("--build", type=Path, help="make a checkpoint, in this process")
    parser.add_argument("--train", help="train by a recipe, in this process")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    options.shape = options.shape or default_shape(options.device)
    if options.train:
        print_line(train(options.train, options.overrides, options.steps, options.device))
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(0)  # the training is left in its middle, and would wait for its workers
    if options.build:
        build_shape(options.shape, options.build, device=options.device, layers=options.layers)
        (options.build / "whole").touch()
        return 0
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    with tempfile.TemporaryDirectory(dir=roomiest()) as name:
        options.work = options.work or Path(name)
        failed = 0
        for recipe in options.recipes:
            found = measure(recipe, options)
            print_line(found)
            failed += "failed" in found
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
