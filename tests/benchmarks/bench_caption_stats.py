"""How long `data stats` takes, and the same figures counted plainly.

    python tests/benchmarks/bench_caption_stats.py [--rows N] [--plain-rows N] [--workers N]

Makes a release with N captions (100,000) of about 120 words, studies it, and prints a JSON object:
seconds from the files to the figures, peak memory of this process and of its largest helper, and
the baseline: plain Python with sets, counters and one MinHash at a time on --plain-rows of the same
captions, in one process, reading and what captions speak of left out, its seconds scaled to N.
Checks that both count the same. Exits with 1 if the study took 120 s or more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from made_captions import made_rows
from plain_study import minhash, plain_study

from sharegptvideo.caption_study import Settings, study

LIMIT_S = 120.0
FILE = "video_instruction/train/pretrain/video_caption_pretrain.jsonl"


def make(root: Path, rows: int) -> Path:
    """A release with `rows` captions, written in one pass."""
    file = root / FILE
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="utf-8") as out:
        for row in made_rows(rows):
            out.write(json.dumps(row) + "\n")
    return file


def caption_of(line: str) -> str:
    """The caption of a line of the release."""
    return str(json.loads(line)["conversations"][1]["value"])


def plainly(captions: list[str]) -> tuple[float, dict[str, Any]]:
    """Seconds and figures of the baseline."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(1, 1 << 32, 150, dtype=np.uint64) for _ in range(2))
    start = time.perf_counter()
    figures = plain_study(captions)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for number, caption in enumerate(captions):
        signature = minhash(caption, a, b)
        for band in range(30):
            key = (band, signature[5 * band : 5 * band + 5].tobytes())
            buckets.setdefault(key, []).append(number)
    return time.perf_counter() - start, figures


def main() -> int:
    """Measure, compare, print, and say by the exit code whether the limit holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--plain-rows", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder, "all"), args.rows)
        start = time.perf_counter()
        figures = study(Settings(Path(folder, "all"), workers=args.workers))
        seconds = time.perf_counter() - start
        peak = [
            resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        few = make(Path(folder, "few"), args.plain_rows)
        captions = [caption_of(line) for line in few.read_text("utf-8").splitlines()]
        part = study(Settings(Path(folder, "few")))["whole"]
    plain_seconds, plain = plainly(captions)
    mine = (part["length"]["mean"], part["vocabulary"]["types"], part["repeated"]["4"]["seq_rep"])
    theirs = (plain["length"], plain["types"], plain["seq_rep"][4][0])
    if not np.allclose(mine, theirs):
        print(f"the two count differently: {mine} and {theirs}", file=sys.stderr)
        return 1
    scaled = plain_seconds * args.rows / len(captions)
    whole = figures["whole"]
    print(
        json.dumps(
            {
                "captions": whole["captions"],
                "mean_words": round(whole["length"]["mean"], 1),
                "seconds": round(seconds, 1),
                "limit_seconds": LIMIT_S,
                "workers": args.workers or len(os.sched_getaffinity(0)),
                "peak_mb": round(peak[0]),
                "peak_mb_helper": round(peak[1]),
                "plain_seconds_measured": round(plain_seconds, 1),
                "plain_rows": len(captions),
                "plain_seconds_scaled": round(scaled),
                "times_faster": round(scaled / seconds, 1),
            }
        )
    )
    return 0 if seconds < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
