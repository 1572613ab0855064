"""Minutes and peak memory of `model convert` on a checkpoint of LLaVA-Hound's 7B shape.

    python tests/benchmarks/bench_convert.py [--folder DIR] [--binary]

The checkpoint is made of zeros in float16, in four shards of safetensors that take no room on disk
(sparse files), or with `--binary` in four .bin files that do. What is converted takes 15 GB in
`--folder` until the end. The conversion runs in a process of its own; prints one line of JSON:
minutes, peak resident memory (`peak_mib`: with pages of the files being read, which the system
takes back when it needs them), and the process's own before it began.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from sharegptvideo._io import write_json
from sharegptvideo.models.convert import convert_checkpoint
from tests.support.authors_checkpoint import SEVEN_B, authors_shapes, write_rest
from tests.support.child_runs import Peak, print_line, run_child

SHARDS = 4
GOAL_MIB = 4096


def write_zeros(out: Path, binary: bool) -> None:
    """Write the checkpoint: a header, and zeros that are nowhere but in the file's length."""
    write_rest(out, SEVEN_B)
    shapes = authors_shapes(SEVEN_B)
    names = list(shapes)
    each = -(-len(names) // SHARDS)
    index = {}
    kind, suffix = ("pytorch_model", "bin") if binary else ("model", "safetensors")
    for number in range(SHARDS):
        part = names[number * each : (number + 1) * each]
        file = f"{kind}-{number + 1:05d}-of-{SHARDS:05d}.{suffix}"
        index |= dict.fromkeys(part, file)
        if binary:
            torch.save({n: torch.zeros(shapes[n], dtype=torch.float16) for n in part}, out / file)
        else:
            _write_sparse(out / file, {name: shapes[name] for name in part})
    write_json(out / f"{kind}.{suffix}.index.json", {"metadata": {}, "weight_map": index})


def _write_sparse(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a safetensors file by its format: the header's length, the header, then the data."""
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + at)


def convert(folder: Path) -> dict[str, Any]:
    """Convert what lies in `folder`, in this process."""
    peak = Peak(torch.device("cpu"))
    peak.restart()
    start, used = time.perf_counter(), time.process_time()
    done = convert_checkpoint(
        folder / "authors", folder / "converted", towers=folder / "authors" / "towers.json"
    )
    figures = peak.figures()
    return {
        "minutes": round((time.perf_counter() - start) / 60, 2),
        "processor_minutes": round((time.process_time() - used) / 60, 2),
        "peak_mib": round(figures["peak_mib"] + figures["baseline_mib"], 1),
        "baseline_mib": figures["baseline_mib"],
        "goal_mib": GOAL_MIB,
        "parameters": done.parameters,
        "weights": done.weights,
        "files": done.shards,
        "clip_positions": done.video_positions,
        "gigabytes": round(sum(f.stat().st_size for f in done.folder.iterdir()) / 1e9, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where there is room for 15 GB (30: --binary)")
    parser.add_argument("--binary", action="store_true", help="shards of .bin, not safetensors")
    parser.add_argument("--convert", type=Path, help="what lies there, in this process")
    options = parser.parse_args()
    if options.convert:
        print_line(convert(options.convert))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        write_zeros(Path(name) / "authors", options.binary)
        outcome = run_child([__file__, "--convert", name])
    print_line({"input": "bin" if options.binary else "safetensors", **outcome.figures})
    return outcome.failed is not None


if __name__ == "__main__":
    sys.exit(main())
