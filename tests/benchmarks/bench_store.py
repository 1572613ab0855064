"""The store of replies: seconds and memory of 1,000,000 replies written, opened again, and read.

    python tests/benchmarks/bench_store.py [--replies N] [--files F] [--reads R]

Each part runs in a process of its own, so that its memory is its own; `seconds` are of the part
alone, `cpu_seconds` what of them it computed (the rest is the disk's, or other work's). A reply has
480 characters, its line 0.8 kB. `mib` is how much the process grew from before its first use of the
store to its peak, `mib_held` what of that the index keeps.

- write: N replies through `get` and `put`, as `ChatClient` does it, one write a line; by one
  process, and by F one after the other;
- open: a new process reads where the lines start;
- read: R keys at random through `get`, of those that are there, and as many that are not: CPU
  microseconds for each;
- refresh: takes up one new line of another process in a store of N.

Prints one JSON line for each, and exits with 1 where a reply that was written is not there.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.endpoint import Reply, ReplyStore
from sharegptvideo.endpoint.cache import request_key
from tests.support.child_runs import print_line

REPLY = Reply("A man cuts an onion. " * 24, "model-1", "fp", "stop", 900, 120, dollars=0.0003)


def key_of(number: int) -> str:
    """Return the key of a request, as `ChatClient` has them."""
    return request_key("http://127.0.0.1/v1", {"n": number})


def peak_mib() -> float:
    """Return the most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held_mib() -> float:
    """Return the memory that this process has now, in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def write(folder: Path, first: int, last: int) -> dict[str, float]:
    """Put replies; the hashes of their requests are made before."""
    import numpy as np  # which the index loads

    del np
    keys = [key_of(number) for number in range(first, last)]
    store = ReplyStore(folder)
    before, start, cpu = held_mib(), time.monotonic(), time.process_time()
    for key in keys:
        if store.get(key) is None:
            store.put(key, REPLY)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    size = sum(file.stat().st_size for file in folder.glob("*.jsonl"))
    store.close()
    return {
        "seconds": seconds, "cpu_seconds": cpu, "mib": peak_mib() - before, "gb_on_disk": size / 1e9
    }  # fmt: skip


def open_again(folder: Path) -> dict[str, float]:
    """Open a store that is there, as a run does that goes on."""
    import numpy as np

    del np
    before, start, cpu = held_mib(), time.monotonic(), time.process_time()
    store = ReplyStore(folder)
    lines = len(store)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu_seconds": cpu, "lines": lines, "mib": peak_mib() - before,
        "mib_held": held_mib() - before,
    }  # fmt: skip


def read(folder: Path, replies: int, reads: int) -> dict[str, float]:
    """Look up keys that are there, and keys that are not."""
    draw, store = random.Random(1), ReplyStore(folder)
    there = [key_of(draw.randrange(replies)) for _ in range(reads)]
    absent = [key_of(replies + number) for number in range(reads)]
    len(store)
    start = time.process_time()
    lost = sum(store.get(key) is None for key in there)
    middle = time.process_time()
    lost += sum(store.get(key) is not None for key in absent)
    end = time.process_time()
    return {
        "us_there": (middle - start) / reads * 1e6, "us_absent": (end - middle) / reads * 1e6,
        "lost": lost,
    }  # fmt: skip


def refresh(folder: Path, replies: int) -> dict[str, float]:
    """Take up one line of another process."""
    store, other = ReplyStore(folder), ReplyStore(folder)
    len(store)
    key = key_of(2 * replies)
    other.put(key, REPLY)
    start = time.monotonic()
    store.refresh()
    seconds = time.monotonic() - start
    other.close()
    return {"us": seconds * 1e6, "lost": int(store.get(key) is None)}


def apart(part: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    """Run a part in a new process, and return its figures."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(part, arguments)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replies", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--reads", type=int, default=20_000)
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as made:
        for files in sorted({1, options.files}):
            folder = Path(made) / str(files)
            each = options.replies // files
            written = [
                apart(write, folder, number * each, (number + 1) * each) for number in range(files)
            ]
            parts = {
                "write": {
                    "seconds": sum(figures["seconds"] for figures in written),
                    "cpu_seconds": sum(figures["cpu_seconds"] for figures in written),
                    "mib": max(figures["mib"] for figures in written),
                    "gb_on_disk": written[-1]["gb_on_disk"],
                },
                "open": apart(open_again, folder),
                "read": apart(read, folder, each * files, options.reads),
                "refresh": apart(refresh, folder, options.replies),
            }
            for part, figures in parts.items():
                rounded = {name: round(value, 2) for name, value in figures.items()}
                print_line({"part": part, "replies": each * files, "files": files, **rounded})
            wrong += int(parts["open"]["lines"] != each * files)
            wrong += int(parts["read"]["lost"] + parts["refresh"]["lost"])
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
