"""What passes before the work begins: imports, commands, a model's identity, loading its weights.

    python tests/benchmarks/bench_startup.py [--gib 2] [--device cpu]

Imports and commands each in a fresh interpreter; marks: under 0.5 s and under 1 s. A checkpoint of
`--gib` in two files is hashed whole, one file after the other, as it was before digests were kept,
then by `weights_hash` the first time and the second. A model of 236 M parameters is loaded as saved
(bfloat16) in a process of its own, by way of the CPU and straight to the device, in turns. Seconds
are of the wall and, in brackets, of the processor, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

RUNS = 10
CASES = {
    "import sharegptvideo": ["-c", "import sharegptvideo"],
    "sharegptvideo --help": ["-m", "sharegptvideo", "--help"],
    "sharegptvideo build --help": ["-m", "sharegptvideo", "build", "--help"],
}
WAYS = ("by way of the CPU", "straight")
ROUNDS = 3
BLOCK = 1 << 26


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and processor seconds of a call, and what it returns."""
    start, spent = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - start, time.process_time() - spent, value


def commands() -> None:
    """Measure every case; the first run, which fills the file cache, is left out."""
    for name, command in CASES.items():
        seconds(command)
        taken = [seconds(command) for _ in range(RUNS)]
        print(f"{name:<28} median {statistics.median(taken):.2f}  slowest {max(taken):.2f}")


def hashed_whole(folder: Path) -> str:
    """The identity as it was found before: every file read, one after the other, each time."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name}\0{sha256}\n".encode())
    return digest.hexdigest()


def identity(folder: Path, gib: float) -> None:
    """Hash a checkpoint of random bytes in two files."""
    from sharegptvideo.models import weights_hash

    os.environ["SHAREGPTVIDEO_CACHE"] = str(folder / "cache")
    content = os.urandom(BLOCK)
    for number in range(2):
        with (folder / f"model-{number}.safetensors").open("wb") as file:
            for _ in range(int(gib * (1 << 29) / BLOCK)):
                file.write(content)
    time.sleep(2.1)  # until their times are old enough to be relied on
    hashed_whole(folder)  # fills the file cache
    whole, spent, expected = timed(lambda: hashed_whole(folder))
    print(f"identity of {gib:g} GiB, whole       {whole:8.3f} s ({spent:.3f})")
    for name in ("first time", "second time"):
        wall, spent, found = timed(lambda: weights_hash(folder))
        assert found == expected, "another identity"
        print(
            f"identity of {gib:g} GiB, {name:11} {wall:8.3f} s ({spent:.3f})  {whole / wall:.1f} ×"
        )


def build(folder: Path) -> Path:
    """A model of 236 M parameters, saved in bfloat16."""
    import torch

    from sharegptvideo.models import ModelSize, build_tiny, load_model

    size = ModelSize(
        frames=2, image=16, patch=8, vision_hidden=32, vision_layers=1, vision_heads=1,
        vision_mlp=32, text_hidden=1024, text_layers=14, text_heads=8, text_mlp=4096,
        vocabulary=600, positions=128,
    )  # fmt: skip
    build_tiny(["a red ball"] * 3, folder, seed=0, size=size)
    load_model(str(folder), dtype="float32").to(torch.bfloat16).save_pretrained(folder)
    return folder


def load(path: str, way: str, device: str) -> None:
    """Load a model in one of the ways and print seconds, and the memory of its own at the peak."""
    import torch
    from transformers import AutoModelForImageTextToText as Auto

    from sharegptvideo.models import load_model
    from tests.support.child_runs import print_line

    def loaded() -> Any:
        if way == WAYS[0]:
            return load_model(path, dtype="auto").to(device)
        return load_model(path, dtype="auto", device=device)

    assert Auto is not None  # imported before the clock starts
    torch.zeros(1, device=device)
    Path("/proc/self/clear_refs").write_text("5")
    wall, spent, model = timed(loaded)
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    total = sum(weight.double().sum().item() for weight in model.state_dict().values())
    print_line({"wall": wall, "cpu": spent, "peak_gb": int(peak) / 1e6, "sum": total})


def loading(folder: Path, device: str) -> None:
    """Load in turns; the least of the rounds counts."""
    from tests.support.child_runs import run_child

    path = str(build(folder / "model"))
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            outcome = run_child([__file__, "--load", path, way, "--device", device])
            assert outcome.failed is None, outcome.failed
            found[way].append(outcome.figures)
    assert len({one["sum"] for runs in found.values() for one in runs}) == 1, "other weights"
    for way, runs in found.items():
        wall, spent, peak = (min(run[key] for run in runs) for key in ("wall", "cpu", "peak_gb"))
        print(f"loading to {device} {way:18} {wall:8.3f} s ({spent:.3f})  peak {peak:.2f} GB")


def main() -> None:
    """Measure all; with `--load`, one way of loading in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--device", default="")
    parser.add_argument("--load", nargs=2, metavar=("PATH", "WAY"))
    asked = parser.parse_args()
    if asked.load:
        load(*asked.load, asked.device)
        return
    commands()
    with tempfile.TemporaryDirectory() as folder:
        identity(Path(folder), asked.gib)
    with tempfile.TemporaryDirectory() as folder:
        import torch

        loading(Path(folder), asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main()
