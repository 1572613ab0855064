"""What `data.stream` saves: time to the first batch and memory, against preparing all rows.

    python tests/benchmarks/bench_streaming.py [--rows 900000] [--prepared 20000]

Captions of about 120 words on 20,000 clips that are links to one short clip, written as
`data publish` writes them. Each way runs in a process of its own, on one thread. All rows are
prepared for `--prepared` of them only: time and memory grow with the rows, and are given for both.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

CLIPS = 20_000
WORDS = ["a", "man", "in", "red", "walks", "over", "the", "field", "while", "two", "dogs", "run"]


def make(folder: Path, rows: int) -> None:
    """Parquet, clips and a tiny model."""
    import pyarrow as pa

    from sharegptvideo.data.publish.shards import SplitWriter
    from sharegptvideo.data.schema import config_of
    from sharegptvideo.data.sources.columns import arrow_schema
    from sharegptvideo.models import build_tiny

    build_tiny([" ".join(WORDS)] * 3, folder / "model", seed=0, size="tiny")
    clip = folder / "one.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        picture = np.full((32, 48, 3), 90, dtype=np.uint8)
        for _ in range(6):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    (folder / "media").mkdir()
    for number in range(CLIPS):
        (folder / "media" / f"clip_{number}.mp4").symlink_to(clip)
    draw = np.random.default_rng(0)
    captions = [" ".join(draw.choice(WORDS, 120)) for _ in range(1000)]
    config = config_of("captions")
    with SplitWriter(config, "train", folder / "parquet") as writer:
        for start in range(0, rows, 10_000):
            numbers = range(start, min(start + 10_000, rows))
            table = pa.table(
                {
                    "id": [f"row_{n}" for n in numbers],
                    "video": [f"clip_{n % CLIPS}" for n in numbers],
                    "source": ["made"] * len(numbers),
                    "prompt": ["Describe the video in detail."] * len(numbers),
                    "caption": [captions[n % 1000] for n in numbers],
                }
            )
            writer.append(table.select(arrow_schema(config).names))
        writer.close()


def run(folder: Path, stream: bool, limit: int | None) -> None:
    """One way, in this process: prints its figures as JSON."""
    from torch.utils.data import DataLoader

    from sharegptvideo.training import load_recipe
    from sharegptvideo.training.collators import ClipCache, SftCollator
    from sharegptvideo.training.examples import sft_dataset
    from sharegptvideo.training.families import open_family
    from sharegptvideo.training.recipes import LengthLimit
    from sharegptvideo.training.sampling import ByLength
    from sharegptvideo.training.streaming import streamed_rows

    recipe = load_recipe(
        "demo/pretrain",
        [
            *(f"model={folder / 'model'}", f"data.data_dir={folder / 'parquet'}", "frames=4"),
            *("data.name=captions", "data.split=train", f"data.media={folder / 'media'}"),
            *("optimisation.max_length=512", f"data.stream={str(stream).lower()}"),
            f"data.limit={limit or 'null'}",
        ],
    )
    family = open_family(recipe)
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    rows: Any
    if stream:
        plan = Path(tempfile.mkdtemp(dir=folder))
        rows, report = streamed_rows(recipe, family, plan, limit=LengthLimit(512))
        sampler: Any = rows.sampler(16, 0)
    else:
        rows, report = sft_dataset(recipe.data, family, limit=LengthLimit(512))
        sampler = ByLength(rows["length"], 16, 0, clips=rows["video_path"])
    ready, cpu = time.perf_counter() - start, time.process_time() - cpu
    loader = DataLoader(
        rows,
        batch_size=16,
        sampler=sampler,
        collate_fn=SftCollator(ClipCache(family.reader, limit=1 << 20), LengthLimit(512)),
    )
    batches = iter(loader)
    next(batches)
    first, at_first = time.perf_counter() - start, peak()
    for _ in range(300):
        next(batches)
    figures = {"rows": report.used, "ready_s": ready, "ready_cpu_s": cpu, "first_batch_s": first}
    figures |= {"first_batch_mb": at_first - before, "after_300_mb": peak() - before}
    if stream:  # as a resume does, in the middle of the epoch
        start, cpu = time.perf_counter(), time.process_time()
        again, _ = streamed_rows(recipe, family, plan, limit=LengthLimit(512))
        order = iter(again.sampler(16, 0))
        for _ in range(report.used // 2):
            next(order)
        again[next(order)]
        figures["resume_s"] = time.perf_counter() - start
        figures["resume_cpu_s"] = time.process_time() - cpu
    print(json.dumps(figures))


def peak() -> float:
    """The most memory that this process held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Make the data, run both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=900_000)
    parser.add_argument("--prepared", type=int, default=20_000)
    parser.add_argument("--in", dest="folder", type=Path)
    parser.add_argument("--way", choices=["stream", "prepare"])
    asked = parser.parse_args()
    if asked.way:
        run(asked.folder, asked.way == "stream", None if asked.way == "stream" else asked.prepared)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, asked.rows)
        found = {}
        for way in ("stream", "prepare"):
            command = [sys.executable, __file__, "--in", name, "--way", way]
            command += ["--prepared", str(asked.prepared)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
    for way, figures in found.items():
        print(way, {key: round(value, 2) for key, value in figures.items()})
    times = asked.rows / found["prepare"]["rows"]
    whole = {key: found["prepare"][key] * times for key in ("first_batch_s", "after_300_mb")}
    print(
        f"all {asked.rows:,} rows prepared, by proportion: {whole['first_batch_s']:.0f} s to the "
        f"first batch, {whole['after_300_mb']:.0f} MB; streamed: "
        f"{found['stream']['first_batch_s']:.1f} s, {found['stream']['after_300_mb']:.0f} MB: "
        f"{whole['first_batch_s'] / found['stream']['first_batch_s']:.0f} times sooner"
    )


if __name__ == "__main__":
    main()
