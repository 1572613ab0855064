"""How well training clips are found among test clips by their pictures: recall, speed, mistakes.

    python tests/benchmarks/bench_leakage.py [--clips N] [--json]

Recall: the five real clips in shared/data, copied in each way of tests/support/clip_copies.py, and
as frame folders like those of the release, looked for among the originals and N clips of the
synthetic world (default 200). The thresholds were chosen by these copies; those of
"drawn anew" were not used for that: eight mixtures of changes drawn at random for each real clip,
and one for each of 40 synthetic ones. The baseline beside it is the usual shortcut: the 64-bit DCT
hash of the middle frame, at most 10 bits apart.

False positives: every clip looked for among all others. No two synthetic clips have the same state,
but many differ only in a colour or in one path, so they are the hard case; the real clips, and
halves of one clip against its other half, are the usual one.

Speed: fingerprints taken, and queries against a gallery of 2,000 clips.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.data.validate.copies import Gallery
from sharegptvideo.data.validate.fingerprint import MIRROR, Fingerprint, take_fingerprint
from sharegptvideo.synthetic.world import Sizes, build_world
from tests.support.clip_copies import (
    BEYOND,
    CHANGES,
    Change,
    brighter,
    copy_clip,
    frame_folder,
    letterboxed,
    mirrored,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data"
HALVES = {"first half": Change(trim=(0.0, 0.48)), "second half": Change(trim=(0.52, 1.0))}


def middle_alike(one: Fingerprint, other: Fingerprint) -> bool:
    """The baseline: the lowest 64 signs of the middle frames."""
    if not len(one.ticks) or not len(other.ticks):
        return False
    first, second = one.light[len(one.ticks) // 2, 0], other.light[len(other.ticks) // 2, 0]
    turned = first ^ MIRROR[0]
    return bool(min(np.bitwise_count(first ^ second), np.bitwise_count(turned ^ second)) <= 10)


COUNTS = ("copies", "found", "sure", "wrong", "middle_frame")


class Searched:
    """The originals, and counts of copies looked for among them."""

    def __init__(self, fingerprints: dict[str, Fingerprint]) -> None:
        self.fingerprints = fingerprints
        self.names = list(fingerprints)
        self.gallery = Gallery(list(fingerprints.values()))

    def count(self, name: str, copy: Path, counts: dict[str, int]) -> None:
        """Search for a copy of the clip `name`."""
        fingerprint = take_fingerprint(copy)
        matches = self.gallery.find(fingerprint)
        right = [match for match in matches if self.names[match.place] == name]
        counts["copies"] += 1
        counts["found"] += bool(right)
        counts["sure"] += any(match.sure for match in right)
        counts["wrong"] += len(matches) - len(right)
        counts["middle_frame"] += middle_alike(fingerprint, self.fingerprints[name])


def drawn(rng: random.Random) -> Change:
    """A mixture of changes: size, quality, rate and cut together, at times a mirror or bars."""
    start = rng.uniform(0, 0.35)
    return Change(
        size=rng.choice([(176, 144), (256, 144), (320, 180), (336, 336), (480, 360)]),
        crf=rng.randint(20, 42),
        fps=rng.choice([None, 5, 8, 15]),
        trim=(start, start + rng.uniform(0.5, 0.65)),
        frame=rng.choice([None, None, None, mirrored, letterboxed, brighter]),
    )


def recall_anew(
    fingerprints: dict[str, Fingerprint], paths: dict[str, Path], folder: Path
) -> dict[str, object]:
    """Copies that no threshold was chosen by."""
    searched, rng = Searched(fingerprints), random.Random(7)
    table = {}
    for kind, names, times in (
        ("real", [name for name in paths if not name.startswith("synthetic")], 8),
        ("synthetic", [name for name in paths if name.startswith("synthetic")][:40], 1),
    ):
        counts = dict.fromkeys(COUNTS, 0)
        for name in names:
            for _ in range(times):
                copy = copy_clip(paths[name], folder / "anew.mp4", drawn(rng))
                searched.count(name, copy, counts)
        table[kind] = counts
    return dict(table)


def recall(
    fingerprints: dict[str, Fingerprint], real: dict[str, Path], folder: Path
) -> dict[str, object]:
    """By change: copies found, sure ones among them, and those the baseline finds."""
    searched = Searched(fingerprints)
    table: dict[str, object] = {}
    total = dict.fromkeys(COUNTS, 0)
    for label, change in [*CHANGES.items(), ("frame folder", None), *BEYOND.items()]:
        counts = dict.fromkeys(total, 0)
        for name, path in real.items():
            out = folder / f"{name}-{len(table)}"
            copy = (
                frame_folder(path, out)
                if change is None
                else copy_clip(path, out.with_suffix(".mp4"), change)
            )
            searched.count(name, copy, counts)
        table[label] = counts
        if label not in BEYOND:
            total = {key: total[key] + counts[key] for key in total}
    return {"by_change": table, "all_but_cropped": total}


def false_positives(
    fingerprints: dict[str, Fingerprint], kinds: dict[str, str]
) -> dict[str, object]:
    """By kind of pair: pairs of different clips, those matched, those matched without doubt."""
    names = list(fingerprints)
    gallery = Gallery(list(fingerprints.values()))
    found: dict[str, dict[str, int]] = {}
    for one, name in enumerate(names):
        matches = {match.place: match for match in gallery.find(fingerprints[name])}
        for two in range(one + 1, len(names)):
            kind = " and ".join(sorted({kinds[name], kinds[names[two]]}))
            counts = found.setdefault(
                kind, {"pairs": 0, "matched": 0, "sure": 0, "middle_frame": 0}
            )
            counts["pairs"] += 1
            counts["matched"] += two in matches
            counts["sure"] += two in matches and matches[two].sure
            counts["middle_frame"] += middle_alike(fingerprints[name], fingerprints[names[two]])
    return dict(found)


def halves(real: dict[str, Path], folder: Path) -> dict[str, int]:
    """Halves of one clip that share no moment: the same scene, but another stretch of it."""
    counts = {"pairs": 0, "matched": 0, "sure": 0}
    for name, path in real.items():
        first, second = (
            take_fingerprint(copy_clip(path, folder / f"{name}-{label}.mp4", change))
            for label, change in HALVES.items()
        )
        matches = Gallery([first]).find(second)
        counts["pairs"] += 1
        counts["matched"] += bool(matches)
        counts["sure"] += any(match.sure for match in matches)
    return counts


def speed(fingerprints: dict[str, Fingerprint], paths: list[Path]) -> dict[str, float]:
    """Clips a second: fingerprints of the world's clips, and queries against 2,000 clips."""
    start = time.perf_counter()
    for path in paths:
        take_fingerprint(path)
    taken = time.perf_counter() - start
    rng = np.random.default_rng(0)
    # Real fingerprints with a twentieth of the signs drawn anew: as crowded as real galleries.
    pool = [fingerprint for fingerprint in fingerprints.values() if len(fingerprint.ticks) > 1]
    many = []
    for number in range(2000):
        fingerprint = pool[number % len(pool)]
        noise = rng.integers(0, 2**64, (6, *fingerprint.light.shape), dtype=np.uint64)
        flips = np.bitwise_and.reduce(noise[:3]) & (noise[3] | noise[4])
        many.append(Fingerprint(fingerprint.ticks, fingerprint.light ^ flips, fingerprint.colour))
    gallery = Gallery(many)
    start = time.perf_counter()
    for fingerprint in pool[:50]:
        gallery.find(fingerprint)
    found = time.perf_counter() - start
    return {
        "looks_per_second": round(len(paths) / taken, 1),
        "queries_per_second_among_2000": round(50 / found, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=200, help="clips of the synthetic world")
    asked = parser.parse_args()
    if not DATA.is_dir():
        print(f"no {DATA.parent.name}/{DATA.name} beside the project", file=sys.stderr)
        return 2
    real = {path.stem: path for path in [*DATA.glob("videos/*.mp4"), *DATA.glob("gifs/*.gif")]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes = Sizes(train=asked.clips // 2, preference=0, test=asked.clips // 4, out_of_domain=0)
        sizes = Sizes(sizes.train, 1, sizes.test, asked.clips - sizes.train - sizes.test - 1)
        build_world(folder / "world", sizes=sizes, workers=1)
        paths = sorted((folder / "world" / "videos").glob("*.mp4"))
        fingerprints = {name: take_fingerprint(path) for name, path in real.items()}
        fingerprints |= {path.stem: take_fingerprint(path) for path in paths}
        kinds = {name: "real" if name in real else "synthetic" for name in fingerprints}
        figures = {
            "recall": recall(fingerprints, real, folder),
            "recall_drawn_anew": recall_anew(
                fingerprints, {**real, **{path.stem: path for path in paths}}, folder
            ),
            "false_positives": {
                **false_positives(fingerprints, kinds),
                "two halves of a real clip": halves(real, folder),
            },
            "speed": speed(fingerprints, paths),
        }
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
