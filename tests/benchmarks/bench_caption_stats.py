"""How long `data stats` takes, and the same figures counted plainly.

    python tests/benchmarks/bench_caption_stats.py [--rows N] [--plain-rows N] [--workers N]

Makes a release with N captions (100,000) of about 120 words, studies it, and prints a JSON object:
seconds from the files to the figures, processor seconds (of all processes; these do not depend on
what else the machine does), peak memory of this process and of its largest helper, and the
baseline: plain Python with sets, counters and one MinHash at a time on --plain-rows captions, in
one process, its processor seconds scaled to N. The baseline leaves out reading, what captions speak
of and the comparison of near-duplicates. Checks that both count the same. Exits with 1 if the study
took 120 s or more.
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

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.data.stats import StatsSettings, caption_stats
from tests.support.made_captions import made_rows
from tests.support.plain_study import minhash, plain_study

LIMIT_S = 120.0
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
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
    """Processor seconds and figures of the baseline."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(1, 1 << 32, 150, dtype=np.uint64) for _ in range(2))
    start = time.process_time()
    figures = plain_study(captions)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for number, caption in enumerate(captions):
        signature = minhash(caption, a, b)
        for band in range(30):
            key = (band, signature[5 * band : 5 * band + 5].tobytes())
            buckets.setdefault(key, []).append(number)
    return time.process_time() - start, figures


def main() -> int:
    """Measure, compare, print, and say by the exit code whether the limit holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--plain-rows", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder, "all"), args.rows)
        before = time.process_time()
        start = time.perf_counter()
        figures = caption_stats(StatsSettings(Path(folder, "all"), workers=args.workers))
        seconds = time.perf_counter() - start
        used = [resource.getrusage(who) for who in WHO]
        processor = sum(one.ru_utime + one.ru_stime for one in used) - before
        peak = [one.ru_maxrss / 1024 for one in used]
        few = make(Path(folder, "few"), args.plain_rows)
        captions = [caption_of(line) for line in few.read_text("utf-8").splitlines()]
        part = caption_stats(StatsSettings(Path(folder, "few")))["whole"]
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
                "processor_seconds": round(processor, 1),
                "limit_seconds": LIMIT_S,
                "workers": args.workers or len(os.sched_getaffinity(0)),
                "peak_mb": round(peak[0]),
                "peak_mb_helper": round(peak[1]),
                "plain_processor_seconds": round(plain_seconds, 1),
                "plain_rows": len(captions),
                "plain_processor_seconds_scaled": round(scaled),
                "times_less_processor": round(scaled / processor, 1),
            }
        )
    )
    return 0 if seconds < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
