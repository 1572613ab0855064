"""Seconds and memory of the quality gates over very many captions.

    python tests/benchmarks/bench_gates.py [--rows N ...] [--workers N] [--kind captions|qa]

Makes N captions (100,000 and 1,000,000) of about 120 words, 2 % of them copies with one word in
forty replaced, streams them through `check_rows` in a process of their own, and prints a JSON line
each: seconds, the memory that this process and its largest helper have at their peak (pages of the
temporary files included, which the system may drop; `mb_own_after` is without), what is flagged,
and how many of the copies are. With `--kind qa`, questions of about 25 words with answers.

The captions are made while they are checked: `seconds_making` says how long that takes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.build.gates import GateSettings, Kind, check_rows
from tests.support.made_captions import made_rows

COPIES = 0.02
DISTINCT = 20_000


def rows_of(kind: Kind, count: int) -> Iterator[dict[str, Any]]:
    """Rows by rule; texts of `DISTINCT` made captions, half of each from another one."""
    rng = random.Random(1)
    texts = [
        str(row["conversations"][1]["value"]).split(" ")  # type: ignore[index]
        for row in made_rows(DISTINCT, copies=0.0)
    ]
    earlier: list[str] = []
    for number in range(count):
        if earlier and rng.random() < COPIES:
            words = rng.choice(earlier).split(" ")
            for place in rng.sample(range(len(words)), max(1, len(words) // 40)):
                words[place] = "changed"
            copy, text = True, " ".join(words)
        else:
            one, other = rng.choice(texts), rng.choice(texts)
            start, half = rng.randrange(len(one)), rng.randrange(len(other))
            rest = one[start:] + one[:start]
            text = " ".join(
                rest[: len(one) // 2] + other[half:] + other[: max(0, half - len(other) // 2)]
            )
            copy = False
            if len(earlier) < 2000:
                earlier.append(text)
        row = {"id": f"{'copy' if copy else 'row'}_{number}", "video": f"clip_{number}"}
        if kind == "captions":
            yield row | {"caption": text}
        else:
            words = text.split(" ")
            yield row | {
                "question": f"What {' '.join(words[:12])}?",
                "answer": " ".join(words[12:25]),
                "caption": text,
            }


def measure(kind: Kind, count: int, workers: int | None) -> dict[str, Any]:
    """Figures of one run, in this process."""
    start = time.perf_counter()
    for _ in rows_of(kind, count):
        pass
    making = time.perf_counter() - start
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    report = check_rows(kind, rows_of(kind, count), settings=GateSettings(workers=workers))
    seconds = time.perf_counter() - start
    peaks = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    status = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    near = [row.id for row in report.flagged if "near-duplicate" in row.gates]
    return {
        "kind": kind,
        "rows": report.rows,
        "seconds": round(seconds, 1),
        "seconds_making": round(making, 1),
        "rows_a_second": round(report.rows / seconds),
        "workers": workers or len(os.sched_getaffinity(0)),
        "mb_before": round(before / 1024),
        "peak_mb": round(peaks[0] / 1024),
        "mb_own_after": round(own / 1024),
        "peak_mb_helper": round(peaks[1] / 1024),
        "flagged": {name: count for name, count in report.counts.items() if count},
        "near_duplicates_that_are_copies": sum(id.startswith("copy") for id in near),
    }


def main() -> None:
    """Measure each number of rows in a process of its own, and print a line each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--kind", choices=("captions", "qa"), default="captions")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.kind, args.rows[0], args.workers)))
        return
    for count in args.rows:
        workers = ["--workers", str(args.workers)] if args.workers else []
        command = [sys.executable, __file__, "--here", "--rows", str(count), "--kind", args.kind]
        subprocess.run([*command, *workers], check=True)


if __name__ == "__main__":
    main()
