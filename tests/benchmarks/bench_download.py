"""`data download` against the script people write: `snapshot_download`, then `tar xzf` in turn.

    python tests/benchmarks/bench_download.py [--archives N] [--clips N] [--rounds N]

A Hub on loopback has N chunks of frame folders that gzip cannot shrink (15 kB a frame, 40 frames
a clip). Both ways run in a process of their own, taking turns, and the best time counts; TMPDIR
chooses the disk. Loopback
costs next to nothing, so this is what checksums and unpacking take; CPU seconds are those of all
processes but the server, and hold on a busy machine too. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.archives import tar_gz
from tests.support.hub_server import HubServer

REPO = "ShareGPTVideo/train_video_and_instruction"
ROWS = "video_instruction/train/qa/qa.jsonl"
OURS = """
import sys
from sharegptvideo.data.download import download
download("qa", sys.argv[1], media=True)
"""
SCRIPT = """
import subprocess, sys
from pathlib import Path
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[2], repo_type="dataset", local_dir=sys.argv[1])
for chunk in sorted(Path(sys.argv[1]).glob("train_300k/*.tar.gz")):
    folder = chunk.with_name(chunk.name.removesuffix(".tar.gz"))
    folder.mkdir()
    subprocess.run(["tar", "xzf", chunk, "-C", folder], check=True)
    chunk.unlink()
"""


def chunk(number: int, clips: int) -> bytes:
    """A chunk of the release in small."""
    draw = random.Random(number)
    return tar_gz(
        {
            f"clip_{number}_{clip}/c01_{frame:04}.jpeg": draw.randbytes(15_000)
            for clip in range(clips)
            for frame in range(1, 41)
        }
    )


def measure(code: str, to: Path, hub: HubServer) -> tuple[float, float, list[str]]:
    """Seconds, CPU seconds, and the frames that came of it."""
    shutil.rmtree(hub.home, ignore_errors=True)
    start, cpu = time.perf_counter(), cpu_seconds()
    subprocess.run(
        [sys.executable, "-c", code, str(to), REPO],
        env={**os.environ, **hub.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    found = sorted(path.relative_to(to).as_posix() for path in to.rglob("*.jpeg"))
    shutil.rmtree(to)
    return seconds, cpu, found


def cpu_seconds() -> float:
    """Of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archives", type=int, default=4)
    parser.add_argument("--clips", type=int, default=100, help="in each archive")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    files = {f"train_300k/chunk_{n}.tar.gz": chunk(n, asked.clips) for n in range(asked.archives)}
    size = sum(map(len, files.values()))
    files[ROWS] = b'{"id": "q", "video": "clip_0_0", "question": "Q?", "answer": "A"}\n'
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, HubServer(Path(name, "home")) as hub:
        hub.add_repo(REPO, files)
        for number in range(asked.rounds):
            frames = []
            ways = [("script", SCRIPT), ("ours", OURS)]
            # The second pays for what the first left to be written.
            for way, code in ways if number % 2 else ways[::-1]:
                seconds, cpu, found = measure(code, Path(name, way), hub)
                best[way] = min(seconds, best.get(way, seconds))
                best[f"{way} cpu"] = min(cpu, best.get(f"{way} cpu", cpu))
                frames.append(found)
            assert frames[0] == frames[1]
    figures = {
        "cores": os.cpu_count(),
        "archives": asked.archives,
        "megabytes": round(size / 1e6),
        "frames": asked.archives * asked.clips * 40,
        "ours_s": round(best["ours"], 2),
        "script_s": round(best["script"], 2),
        "ours_cpu_s": round(best["ours cpu"], 2),
        "script_cpu_s": round(best["script cpu"], 2),
        "script_to_ours": round(best["script"] / best["ours"], 2),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
