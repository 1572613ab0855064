"""The media index over 100,000 folders of frames: cold, unchanged, and with some changed.

    python tests/benchmarks/bench_media_index.py [--folders N] [--work FOLDER]

Makes N folders (default 100,000) of 8 to 32 JPEG frames, 336×336, named and spread over chunks as
in the release; the frames are hard links to a few files, so the disk holds names and little else.
They have just been written, so the system's cache is warm for all ways alike.

Baseline, in the same run: the script that people write instead. For each folder it lists the
frames, sums their sizes and opens the first one; it keeps nothing, so its second pass costs the
same. Beside it, what one walk of `MediaFolder` takes. Prints one JSON object; exits with 1 if
the index takes 60 s cold or 3 s unchanged, or more, for 100,000 folders.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sharegptvideo.media import MediaFolder
from sharegptvideo.media.index import index_media

COLD_LIMIT_S = 60.0
UNCHANGED_LIMIT_S = 3.0
FULL = 100_000
CHUNKS = 46
# File systems limit the names of one file (ext4: 65,000).
LINKS = 50_000


def make(root: Path, folders: int) -> int:
    """Write the folders; returns how many frames there are."""
    random = np.random.default_rng(0)
    counts = random.integers(8, 33, folders).tolist()
    noise = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((336, 336), Image.Resampling.BICUBIC)
    seed, links = root / "seed.jpg.src", LINKS
    for number, count in enumerate(counts):
        folder = root / f"chunk_{number % CHUNKS}" / f"clip_{number:06d}"
        folder.mkdir(parents=True)
        if links + count > LINKS:
            seed.unlink(missing_ok=True)
            picture.save(seed, format="JPEG", quality=90)
            links = 0
        for frame in range(1, count + 1):
            os.link(seed, folder / f"c01_{frame:04d}.jpeg")
        links += count
    seed.unlink()
    return sum(counts)


def usual_script(root: Path) -> dict[str, tuple[int, int, tuple[int, int]]]:
    """Frames, bytes and size of each folder, by the plainest code."""
    found = {}
    for folder in root.glob("chunk_*/*"):
        frames = sorted(folder.glob("*.jpeg"))
        size = sum(frame.stat().st_size for frame in frames)
        with Image.open(frames[0]) as image:
            found[f"{folder.parent.name}/{folder.name}"] = (len(frames), size, image.size)
    return found


def timed(way: Any) -> tuple[float, Any]:
    """Seconds, and what came back."""
    begun = time.perf_counter()
    value = way()
    return time.perf_counter() - begun, value


def measure(root: Path, folders: int) -> dict[str, Any]:
    """All ways, on the same folders; what the index holds is checked against the script's."""
    base_s, expected = timed(lambda: usual_script(root))
    walk_s, _ = timed(lambda: MediaFolder(root).resolve("clip_000000"))
    cold_s, index = timed(lambda: index_media(root))
    held = {
        clip.path: (clip.facts.frames, clip.facts.bytes, (clip.facts.width, clip.facts.height))
        for clip in index.clips()
    }
    assert held == expected, "the index and the script differ"
    assert index.opened == folders
    # Folders made in the last two seconds before the index are opened once more.
    index_media(root)
    unchanged_s, index = timed(lambda: index_media(root))
    assert index.opened == 0
    for number in range(0, folders, 100):
        (root / f"chunk_{number % CHUNKS}" / f"clip_{number:06d}" / "c01_0001.jpeg").unlink()
    some_s, index = timed(lambda: index_media(root))
    assert index.opened == len(range(0, folders, 100))
    return {
        "folders": folders,
        "cores": os.cpu_count(),
        "script_s": round(base_s, 2),
        "walk_s": round(walk_s, 2),
        "cold_s": round(cold_s, 2),
        "unchanged_s": round(unchanged_s, 2),
        "one_in_100_changed_s": round(some_s, 2),
        "cold_times_faster_than_script": round(base_s / cold_s, 2),
        "unchanged_times_faster_than_script": round(base_s / unchanged_s, 1),
        "index_mib": round(index.file.stat().st_size / 2**20, 1),
        "limits_s": [COLD_LIMIT_S, UNCHANGED_LIMIT_S],
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folders", type=int, default=FULL)
    parser.add_argument("--work", type=Path, help="where to write; a temporary folder if left out")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=asked.work, prefix="media_index_"))
    try:
        made_s, frames = timed(lambda: make(root, asked.folders))
        print(f"made {asked.folders} folders, {frames} frames, {made_s:.0f} s", file=sys.stderr)
        figures = {"frames": frames, **measure(root, asked.folders)}
    finally:
        shutil.rmtree(root)
    print(json.dumps(figures))
    share = asked.folders / FULL
    held = figures["cold_s"] < COLD_LIMIT_S * max(share, 1)
    return 0 if held and figures["unchanged_s"] < UNCHANGED_LIMIT_S * max(share, 1) else 1


if __name__ == "__main__":
    sys.exit(main())
