"""Rows with eight frames a second: `load_dataset(frames=8)` against decoding by hand with PyAV.

    python tests/benchmarks/bench_frames.py [--rows 60] [--rounds 3]

The five real clips of the shared data in turn, at their own sizes, through PyTorch's `DataLoader`
with 0 and 2 workers. By hand: a list of paths, and a function that opens each with PyAV, decodes
it and converts the eight frames wanted: what one would write without the package, for clips that
are known to be sound and unturned. All ways take turns within one run; medians of rows a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch.utils.data import DataLoader, Dataset

from sharegptvideo import load_dataset

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FRAMES = 8


def by_hand(path: str) -> Any:
    """Eight frames of a clip, as `sample_frames` takes them; counting needs a first pass."""
    with av.open(path) as container:
        count = sum(1 for packet in container.demux(video=0) if packet.size)
    wanted = [i * (count - 1) // (FRAMES - 1) for i in range(FRAMES)]
    with av.open(path) as container:
        # Threads of a decoder that is not freed yet would hang the workers that are forked.
        container.streams.video[0].codec_context.thread_count = 1
        kept = {
            number: frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(container.decode(video=0))
            if number in wanted
        }
    return np.stack([kept[number] for number in wanted])


class Hand(Dataset[Any]):
    """Rows as one would write them."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self.rows[number]
        return {**row, "frames": by_hand(row["video_path"])}


def rate(rows: Any, count: int, workers: int) -> tuple[float, list[int]]:
    """Rows a second, workers' start included, and a sum of each row's pixels."""
    start, sums = time.perf_counter(), []
    for (row,) in DataLoader(rows, batch_size=1, num_workers=workers, collate_fn=list):
        sums.append(int(row["frames"].sum()))
    assert len(sums) == count
    return count / (time.perf_counter() - start), sums


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    clips = sorted([*SHARED.glob("videos/*.mp4"), *SHARED.glob("gifs/*.gif")])
    if not clips:
        raise SystemExit(f"no clips: {SHARED} is absent")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["SHAREGPTVIDEO_CACHE"] = str(root / "cache")
        write(root / "release", [clip.stem for clip in clips], asked.rows)
        options: dict[str, Any] = {"data_dir": root / "release", "media": SHARED}
        paths = list(load_dataset("qa", "train", **options))
        ways = {
            "by hand": Hand(paths),
            "table": load_dataset("qa", "train", frames=FRAMES, **options),
            "stream": load_dataset("qa", "train", frames=FRAMES, streaming=True, **options),
        }
        for workers in (0, 2):
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(asked.rounds):
                seen = []
                for way, rows in ways.items():
                    speed, sums = rate(rows, asked.rows, workers)
                    rates[way].append(speed)
                    seen.append(sorted(sums))
                assert seen[0] == seen[1] == seen[2], "all ways give the same pixels"
            hand = statistics.median(rates["by hand"])
            for way, speeds in rates.items():
                middle = statistics.median(speeds)
                print(f"{workers} workers, {way:8}{middle:6.1f} rows/s, {middle / hand:.2f} of it")


def write(release: Path, stems: list[str], count: int) -> None:
    """Write questions about the clips in turn, in the release's layout."""
    folder = release / "video_instruction" / "train" / "qa"
    folder.mkdir(parents=True)
    (release / "splits.json").write_text('{"validation": []}')
    for part in range(2):  # a file each for two workers of a stream
        with (folder / f"{part}.jsonl").open("w") as out:
            for number in range(part, count, 2):
                said = [{"from": "human", "value": f"<video>\nWho {number}?"}]
                said.append({"from": "gpt", "value": "A cat."})
                row = {"id": f"q{number}", "video": stems[number % len(stems)]}
                out.write(json.dumps({**row, "conversations": said}) + "\n")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
