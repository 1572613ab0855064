"""Loader workers: how soon four are there, and the clips they decode against what two GPUs need.

    python tests/benchmarks/bench_loading.py [--workers 0 1 2] [--rate 3.1]

The real clips of the shared data, 8 frames at 224 pixels, none of them kept. What a GPU needs is
`--rate` clips a second: a 7B model does 6 x 7e9 operations for each of a clip's 2,260 tokens, a
third more with gradient checkpointing, at 40 % of an H100's 989 TFLOPS in bf16. The step of a GPU
is a pause here, since it leaves the cores of the machine to the workers.

First, four workers from nothing to their first batch, and from the last one to their end: as a
training starts them (with the server of workers new, and there already), and by `spawn`.

Last, two epochs with each `data.keep_clips`, in the training process: every clip once an epoch, of
eight copies of the real ones, files in the page cache already. `equal` says whether the batches of
both epochs are those of `none` to the bit.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from torch.utils.data import DataLoader, Dataset

from sharegptvideo._text import byte_size
from sharegptvideo.models import VideoPixels, build_tiny
from sharegptvideo.training import load_recipe
from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.families import open_family
from sharegptvideo.training.families.video_llava import VideoLlavaReader
from sharegptvideo.training.launch import start_worker_server
from sharegptvideo.training.precompute.clips import ClipKeeper, KeptReader
from sharegptvideo.training.recipes import DataSource, LengthLimit
from sharegptvideo.training.workers import CheckedCollator, CheckedRows

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
BATCH, BATCHES, COPIES = 4, 15, 8
Spent = tuple[float, float]
"""Seconds of the clock, and of the processor."""


class Rows(Dataset[dict[str, Any]]):
    """As many rows as a round needs, each about the next clip."""

    def __init__(self, paths: list[str], row: dict[str, Any]) -> None:
        self.paths, self.row = paths, row

    def __len__(self) -> int:
        return BATCH * BATCHES

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {**self.row, "video_path": self.paths[number % len(self.paths)]}


def round_of(loader: DataLoader[Any], pause: float) -> list[float]:
    """Seconds of each step: its batch, and a pause as long as the GPUs would take."""
    seconds = []
    batches = iter(loader)
    for _ in range(BATCHES):
        start = time.perf_counter()
        next(batches)
        time.sleep(pause)
        seconds.append(time.perf_counter() - start)
    return seconds


def first_and_last(rows: Rows, collate: Any, method: str) -> tuple[float, float]:
    """Seconds of four workers from nothing to a batch, and from their last batch to their end."""
    start = time.perf_counter()
    if method == "forkserver":
        start_worker_server()
    loader: DataLoader[Any] = DataLoader(
        CheckedRows(rows),
        batch_size=BATCH,
        collate_fn=CheckedCollator(collate),
        num_workers=4,
        persistent_workers=True,
        multiprocessing_context=method,
    )
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - start
    for _ in batches:
        pass
    start = time.perf_counter()
    del batches, loader
    gc.collect()
    return first, time.perf_counter() - start


def epochs_of(how: Any, reader: Any, rows: Any) -> tuple[list[Spent], list[str], int]:
    """What two epochs took and a digest of the batches of each; bytes that are kept after them."""
    spent, digests = [], []
    with ClipKeeper(DataSource(name="sft", keep_clips=how), lambda _: None) as keeper:
        kept = keeper.reader(reader, rows)
        collate = SftCollator(ClipCache(kept, limit=1), LengthLimit(4096))
        for _ in range(2):
            digest = hashlib.sha256()
            clock, processor = time.perf_counter(), time.process_time()
            batches = [collate([rows[n] for n in range(at, at + BATCH)]) for at in places(rows)]
            spent.append((time.perf_counter() - clock, time.process_time() - processor))
            for batch in batches:
                for _, tensor in sorted(batch["clips"].items()):
                    digest.update(tensor.contiguous().numpy())
            digests.append(digest.hexdigest())
        folder = kept.store.folder if isinstance(kept, KeptReader) else Path("none")
        size = sum(path.stat().st_size for path in folder.rglob("*.clip"))
    return spent, digests, size


def places(rows: Any) -> range:
    """Where batches begin; a last one that is not full is left out."""
    return range(0, len(rows) - BATCH + 1, BATCH)


def compare_epochs(clips: list[str], reader: Any, row: dict[str, Any], folder: Path) -> None:
    """Print both epochs for each way of keeping clips, and their second one against no keeping."""
    os.environ["SHAREGPTVIDEO_CACHE"] = str(folder / "cache")
    paths = []
    for number in range(COPIES):
        for clip in clips:
            path = folder / str(number) / Path(clip).name
            path.parent.mkdir(exist_ok=True)
            paths.append(str(shutil.copy2(clip, path)))
    rows = datasets.Dataset.from_list(
        [{**row, "video_path": path, "image_path": None} for path in paths]
    )
    ways = ("none", "memory", "disk")
    found = {how: epochs_of(how, reader, rows) for how in ways}
    plain, expected, _ = found["none"]
    clock, processor = (min(each) for each in zip(*plain, strict=True))
    for how, ((first, second), digests, size) in found.items():
        kept = f"; {byte_size(size)} kept" if size else ""
        print(
            f"keep_clips {how}: epoch 1 in {first[0]:.2f} s, epoch 2 in {second[0]:.2f} s;"
            f" epoch 2 is {clock / second[0]:.1f} x as fast as none's faster one,"
            f" {processor / second[1]:.1f} x by processor time{kept}; equal: {digests == expected}"
        )


def main() -> None:
    """Decode in rounds with each number of workers and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=3.1, help="clips a second that a GPU needs")
    parser.add_argument("--frames", type=int, default=8)
    asked = parser.parse_args()
    endings = {".mp4", ".gif"}
    clips = sorted(str(path) for path in SHARED.rglob("*") if path.suffix in endings)
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny(["what is it"] * 3, Path(folder) / "model", seed=0, size="tiny")
        settings = [f"model={model}", f"frames={asked.frames}", "data.data_dir=synthetic"]
        family = open_family(load_recipe("demo/sft", settings))
    assert isinstance(family.reader, VideoLlavaReader)
    reader = replace(family.reader, pixels=VideoPixels())  # the real model's 224 pixels
    ids, assistant_mask = family.encode(
        [{"role": "user", "content": "what"}, {"role": "assistant", "content": "it is"}]
    )
    rows = Rows(clips, {"ids": ids, "assistant_mask": assistant_mask})
    collate = SftCollator(ClipCache(reader, limit=1), LengthLimit(4096))
    for method in ("forkserver", "forkserver", "spawn"):
        first, end = first_and_last(rows, collate, method)
        print(f"four workers by {method}: first batch after {first:.2f} s, ended in {end:.2f} s")
    need = 2 * asked.rate
    pause = BATCH / need
    print(
        f"{len(clips)} clips, {asked.frames} frames at 224 px; {os.cpu_count()} cores; two GPUs "
        f"need {need:.1f} clips/s, a step of {BATCH} clips takes them {pause:.2f} s"
    )
    for workers in asked.workers:
        loader: DataLoader[Any] = DataLoader(
            rows,
            batch_size=BATCH,
            collate_fn=CheckedCollator(collate),
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            persistent_workers=workers > 0,
            multiprocessing_context="forkserver" if workers else None,
        )
        round_of(loader, 0)  # workers start, files come from the disk
        start = time.perf_counter()
        round_of(loader, 0)
        speed = BATCH * BATCHES / (time.perf_counter() - start)
        step = statistics.median(round_of(loader, pause))
        print(
            f"workers {workers}: {speed:5.1f} clips/s ({speed / need:4.1f} x the need); "
            f"a step {step:.2f} s, of which waited {step - pause:.2f} s"
        )
    row = {"ids": ids, "assistant_mask": assistant_mask}
    with tempfile.TemporaryDirectory() as folder:
        compare_epochs(clips, reader, row, Path(folder))


if __name__ == "__main__":
    main()
