"""What loading costs: a cold table and a stream of captions, against `datasets` alone on the file.

    python tests/benchmarks/bench_load.py [--rows 60000] [--rounds 3]

Captions as long as the release's, as JSONL in its layout and as the Parquet of `data publish`.
Each way runs in a process of its own, with an empty cache, and the figures are its seconds of
processor (all threads, without the imports) and on the clock: the least of the rounds.

- `table`: `load_dataset`, both splits written to the cache, one opened; `json table` and
  `parquet table`: `datasets` writes the file's rows as they are, unchecked, in one split;
- `stream`: all rows of a split by `load_dataset(streaming=True)`, against the same baselines;
- `rows`: all rows of a split by `read_rows`, without `datasets`;
- `workers`: the stream in a `DataLoader` of two workers; `rows` says how many came.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.made_captions import made_rows

OURS = {
    "table": 'load_dataset("captions", data_dir=SOURCE)',
    "stream": 'load_dataset("captions", data_dir=SOURCE, streaming=True)',
    "rows": 'read_rows("captions", SOURCE)',
    "workers": 'DataLoader(load_dataset("captions", data_dir=SOURCE, streaming=True), '
    "batch_size=None, num_workers=2)",
}
ALONE = {
    "table": "datasets.load_dataset(KIND, data_files=FILES)",
    "stream": 'datasets.load_dataset(KIND, data_files=FILES, split="train", streaming=True)',
}
CODE = """
import contextlib, json, os, time, warnings
import datasets, sharegptvideo
from sharegptvideo import load_dataset, read_rows
with contextlib.suppress(ImportError):
    from torch.utils.data import DataLoader
warnings.simplefilter("ignore")
datasets.disable_progress_bars()
def seconds():
    return sum(os.times()[:4])
wall, cpu = time.perf_counter(), seconds()
found = {dataset}
count = sum(1 for _ in found) if {passes} else len(found)
print(json.dumps(dict(cpu=seconds() - cpu, wall=time.perf_counter() - wall, rows=count)))
"""


def make(folder: Path, rows: int) -> None:
    """Write the captions in the release's layout and as Parquet."""
    from sharegptvideo.data.publish.shards import write_config
    from sharegptvideo.data.schema import CONFIGS
    from sharegptvideo.data.sources import open_source

    file = folder / "release" / "video_instruction" / CONFIGS["captions"].file
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in made_rows(rows))
    config = CONFIGS["captions"]
    write_config(open_source(config, folder / "release"), config, folder / "parquet")


def run(folder: Path, form: str, way: str, dataset: str) -> dict[str, Any]:
    """One way in a fresh process with an empty cache."""
    source = folder / ("release" if form == "json" else "parquet")
    files = sorted(map(str, source.rglob("*.jsonl" if form == "json" else "train-*.parquet")))
    names = {"SOURCE": str(source), "KIND": form, "FILES": files}
    code = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    code += CODE.format(dataset=dataset, passes=way != "table")
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        environment = {**os.environ, "HF_HOME": cache, "HF_DATASETS_OFFLINE": "1"}
        environment |= {"SHAREGPTVIDEO_CACHE": f"{cache}/own"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
    if done.returncode:
        raise SystemExit(f"{form} {way}: {done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Make the data, run every way in rounds, print the least."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    ways = [(f"ours {way}", way, code) for way, code in OURS.items()]
    ways += [(f"datasets {way}", way, code) for way, code in ALONE.items()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        make(folder, asked.rows)
        print(f"{asked.rows:,} captions made in {time.perf_counter() - start:.0f} s")
        for form in ("json", "parquet"):
            rounds = [
                {label: run(folder, form, way, code) for label, way, code in ways}
                for _ in range(asked.rounds)
            ]
            for label, _, _ in ways:
                cpu, wall = (min(one[label][key] for one in rounds) for key in ("cpu", "wall"))
                every = " ".join(f"{one[label]['cpu']:.2f}" for one in rounds)
                rows = rounds[0][label]["rows"]
                print(f"{form:8}{label:16} {cpu:5.2f} s processor ({every}), {wall:5.2f} s; {rows}")


if __name__ == "__main__":
    main()
