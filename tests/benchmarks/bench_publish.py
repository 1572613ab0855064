"""Release to Parquet, and reading it again, against `datasets.load_dataset("json")` plus a map.

    python tests/benchmarks/bench_publish.py [--rows N] [--work FOLDER]

Makes N caption rows (default 900,000; captions of about 120 words, lengths drawn as the release
has them: log-normal, from one sentence to a page) in the release layout and measures, each in a
process of its own:

- publish: JSONL to the shards of `data publish`, both splits, ids checked, texts cleaned;
- baseline: `load_dataset("json")`, a `map` with the same conversion, checks and split rule,
  `to_parquet` for both splits;
- first row and full pass, streaming, from our shards and from the JSONL, by `load_dataset` of
  this package and by `datasets` alone. The clock starts when the libraries are imported, which
  takes all of them the same second or two (`import_s`): `datasets` imports torch, where that is
  installed, with its first stream. `read_rows` needs neither.

Prints one JSON object with seconds, peak memory of the process and all it started in MiB, and
ratios; exits with 1 where one of the limits below is broken. Rows are compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

LIMITS = {"publish_ratio": 3.0, "publish_mib": 1024.0, "first_row_s": 1.0, "pass_ratio": 2.0}
PROMPTS = (
    "<video>\nDescribe what happens in the clip, scene by scene.",
    "<video>\nGive a full account of the video, with its objects, people and setting.",
    "Write down all that can be seen in this video.\n<video>",
    "<video>\nWhat goes on here? Be detailed.",
)


def generate(path: Path, rows: int) -> None:
    """Write `rows` caption rows as the release has them; about 0.8 KB each."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    pool = draw.choices(words, weights, k=1 << 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            count = min(400, max(12, round(draw.lognormvariate(4.74, 0.3))))
            start = draw.randrange(len(pool) - count)
            caption = " ".join(pool[start : start + count]).capitalize() + "."
            row = {
                "id": f"{number}_{draw.randrange(10**9)}",
                "video": f"v_{number:011d}-Scene-001" if number % 18 == 0 else f"{number * 37}",
                "conversations": [
                    {"from": "human", "value": draw.choice(PROMPTS)},
                    {"from": "gpt", "value": caption},
                ],
            }
            file.write(json.dumps(row) + "\n")


PUBLISH = """
from pathlib import Path
from sharegptvideo.data.publish.shards import write_config
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources import open_source
config = CONFIGS["captions"]
done = write_config(open_source(config, RELEASE), config, Path(OUT))
print({split: files.rows for split, files in done.items()})
"""

BASELINE = """
import datasets
from sharegptvideo.data.schema import CONFIGS, features
from sharegptvideo.data.sources.rows import convert
from sharegptvideo.data.sources.splits import SplitRule
config, rule, ids = CONFIGS["captions"], SplitRule(), set()
def row(raw):
    made = convert(config, raw, "release")
    if made["id"] in ids:
        raise ValueError(made["id"])
    ids.add(made["id"])
    return made | {"split": rule.split_of(made["video"])}
table = datasets.load_dataset("json", data_files=JSONL, split="train", cache_dir=OUT)
columns = features("captions")
columns["split"] = datasets.Value("string")
table = table.map(row, features=columns, remove_columns=table.column_names)
for split in ("train", "validation"):
    where = [name == split for name in table["split"]]
    part = table.select([n for n, there in enumerate(where) if there]).remove_columns("split")
    part.to_parquet(f"{OUT}/{split}-00000-of-00001.parquet")
"""

PASS = """
import time
start = time.perf_counter()
{import_}
print(time.perf_counter() - start)
start = time.perf_counter()
stream = iter({dataset})
first = next(stream)
print(time.perf_counter() - start)
count = 1 + sum(1 for _ in stream)
print(time.perf_counter() - start)
print(count)
"""

DATASETS = (
    "import contextlib\nimport datasets\nwith contextlib.suppress(ImportError):\n    import torch\n"
)

STREAMS = {
    "ours_parquet": (
        DATASETS + "from sharegptvideo import load_dataset",
        'load_dataset("captions", data_dir=OUT, streaming=True)',
    ),
    "ours_jsonl": (
        DATASETS + "from sharegptvideo import load_dataset",
        'load_dataset("captions", data_dir=RELEASE, streaming=True)',
    ),
    "ours_parquet_rows": (
        "from sharegptvideo import read_rows",
        'read_rows("captions", OUT)',
    ),
    "datasets_parquet": (
        DATASETS,
        'datasets.load_dataset("parquet", data_files=OUT + "/captions/train-*.parquet",'
        ' split="train", streaming=True)',
    ),
    "datasets_json_map": (
        DATASETS + "from sharegptvideo.data.schema import CONFIGS\n"
        "from sharegptvideo.data.sources.rows import convert\n"
        "from sharegptvideo.data.sources.splits import SplitRule\n"
        'config, rule = CONFIGS["captions"], SplitRule()',
        'datasets.load_dataset("json", data_files=JSONL, split="train", streaming=True)'
        '.map(lambda raw: convert(config, raw, "release"), remove_columns=["conversations"])'
        '.filter(lambda row: rule.split_of(row["video"]) == "train")',
    ),
}


def measured(code: str, paths: dict[str, str], cache: Path) -> dict[str, Any]:
    """Run code in a fresh process; its output, seconds and peak memory with all children."""
    head = "".join(f"{name} = {value!r}\n" for name, value in paths.items())
    environment = {**os.environ, "HF_HOME": str(cache / "hf"), "HF_DATASETS_OFFLINE": "1"}
    environment["SHAREGPTVIDEO_CACHE"] = str(cache / "own")
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", head + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=cache,
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    output = process.communicate()[0]
    seconds = time.perf_counter() - start
    watcher.join()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode} of:\n{code}")
    return {"seconds": seconds, "mib": peak[0], "output": output.split()}


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    import psutil

    while process.poll() is None:
        total = 0
        for one in _family(process.pid):
            try:
                # Proportional share: pages that a fork shares count once, a file's map does not.
                total += one.memory_info().rss - one.memory_info().shared
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total / 2**20)
        time.sleep(0.02)


def _family(pid: int) -> list[Any]:
    import psutil

    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def main() -> int:
    """Measure, print, and say by the exit code whether the limits hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=900_000)
    parser.add_argument("--work", type=Path, help="folder for the files; kept, and reused")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.rows, options.work or Path(folder))
    print(json.dumps(figures, indent=1))
    return 1 if figures["broken"] else 0


def measure(rows: int, work: Path) -> dict[str, Any]:
    """All figures for `rows` rows."""
    work.mkdir(parents=True, exist_ok=True)
    release = work / f"release-{rows}"
    jsonl = release / "video_instruction/train/pretrain/video_caption_pretrain.jsonl"
    if not jsonl.exists():
        generate(jsonl, rows)
    jsonl.read_bytes()  # both sides find it in memory
    paths = {"RELEASE": str(release), "JSONL": str(jsonl), "OUT": str(work / "ours")}
    publish = measured(PUBLISH, paths, work)
    with tempfile.TemporaryDirectory(dir=work) as other:
        baseline = measured(BASELINE, paths | {"OUT": other}, Path(other))
        equal = _equal(Path(other), work / "ours" / "captions")
    figures: dict[str, Any] = {
        "rows": rows,
        "jsonl_mib": jsonl.stat().st_size / 2**20,
        "parquet_mib": sum(p.stat().st_size for p in (work / "ours").rglob("*.parquet")) / 2**20,
        "publish_s": publish["seconds"],
        "publish_mib": publish["mib"],
        "baseline_s": baseline["seconds"],
        "baseline_mib": baseline["mib"],
        "publish_ratio": baseline["seconds"] / publish["seconds"],
        "rows_equal": equal,
    }
    for name, (import_, dataset) in STREAMS.items():
        with tempfile.TemporaryDirectory(dir=work) as cache:
            code = PASS.format(import_=import_, dataset=dataset)
            output = measured(code, paths, Path(cache))["output"]
        figures[name] = {
            "import_s": float(output[0]),
            "first_row_s": float(output[1]),
            "pass_s": float(output[2]),
            "rows": int(output[3]),
        }
    figures["first_row_s"] = figures["ours_parquet"]["first_row_s"]
    figures["pass_ratio"] = (
        figures["datasets_json_map"]["pass_s"] / figures["ours_parquet"]["pass_s"]
    )
    figures["limits"] = LIMITS
    figures["broken"] = _broken(figures)
    return figures


def _equal(other: Path, ours: Path) -> bool:
    """Whether both wrote the same rows in the same order."""
    import pyarrow.parquet as pq

    return all(
        pq.read_table(sorted(other.glob(f"{split}-*"))[0])
        .cast(pq.read_schema(sorted(ours.glob(f"{split}-*"))[0]))
        .equals(pq.read_table([str(path) for path in sorted(ours.glob(f"{split}-*"))]))
        for split in ("train", "validation")
    )


def _broken(figures: dict[str, Any]) -> list[str]:
    least = [name for name in ("publish_ratio", "pass_ratio") if figures[name] < LIMITS[name]]
    most = [name for name in ("publish_mib", "first_row_s") if figures[name] > LIMITS[name]]
    return least + most + ([] if figures["rows_equal"] else ["rows_equal"])


if __name__ == "__main__":
    sys.exit(main())
