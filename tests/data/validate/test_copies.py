"""Clips known again by what they show: real clips and their copies, and clips that only seem alike.

The recall over all changes and clips is measured in tests/benchmarks/bench_leakage.py.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sharegptvideo.data.validate import validate
from sharegptvideo.data.validate.copies import ALIKE, Gallery
from sharegptvideo.data.validate.fingerprint import (
    MIRROR,
    Fingerprint,
    FingerprintCache,
    take_fingerprint,
)
from sharegptvideo.media import sample_frames
from tests.support.clip_copies import CHANGES, Change, copy_clip, cropped, frame_folder, mirrored
from tests.support.faulty_rows import findings_of, qa

Release = Callable[[dict[str, list[Any]]], Path]


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> dict[str, Path]:
    """The real clips by name."""
    found = [*shared_data.glob("videos/*.mp4"), *shared_data.glob("gifs/*.gif")]
    return {path.stem: path for path in sorted(found)}


@pytest.fixture(scope="module")
def fingerprints(clips: dict[str, Path]) -> dict[str, Fingerprint]:
    """Return their fingerprints."""
    return {name: take_fingerprint(path) for name, path in clips.items()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("baby_reading", "160×120, crf 40"),
        ("baby_living_room", "middle half"),
        ("baby_living_room", "10 frames a second"),
        ("tgif_cat_drinks", "letterboxed"),
        ("tgif_cat_drinks", "0.37 s cut off in front"),
        ("baby_living_room", "mirrored"),
    ],
)
def test_copy_is_found_and_nothing_else(
    clips: dict[str, Path],
    fingerprints: dict[str, Fingerprint],
    tmp_path: Path,
    name: str,
    change: str,
) -> None:
    fingerprint = take_fingerprint(copy_clip(clips[name], tmp_path / "copy.mp4", CHANGES[change]))
    names = list(fingerprints)
    (match,) = Gallery(list(fingerprints.values())).find(fingerprint)
    assert names[match.place] == name
    assert match.sure
    assert match.mirrored is (change == "mirrored")
    quarter = 0.25 * fingerprints[name].ticks[-1] / 8
    shift = {"middle half": quarter, "0.37 s cut off in front": 0.37}.get(change)
    if shift is not None:
        assert match.seconds == pytest.approx(shift, abs=0.3)


def test_frame_folder_of_a_clip_is_found(
    clips: dict[str, Path], fingerprints: dict[str, Fingerprint], tmp_path: Path
) -> None:
    fingerprint = take_fingerprint(frame_folder(clips["baby_reading"], tmp_path / "frames"))
    (match,) = Gallery(list(fingerprints.values())).find(fingerprint)
    assert list(fingerprints)[match.place] == "baby_reading"
    assert match.overlap == len(fingerprint.ticks)
    assert match.seconds == pytest.approx(0, abs=0.25)


def test_different_clips_are_not_found(fingerprints: dict[str, Fingerprint]) -> None:
    for name, fingerprint in fingerprints.items():
        others = [other for key, other in fingerprints.items() if key != name]
        assert Gallery(others).find(fingerprint) == []


def test_mirror_bits_are_what_mirrored_pixels_give(clips: dict[str, Path], tmp_path: Path) -> None:
    from PIL import Image

    for number, change in enumerate((lambda f: f, mirrored)):
        (tmp_path / str(number)).mkdir()
        frame = sample_frames(clips["baby_reading"], 1).frames[0]
        Image.fromarray(np.ascontiguousarray(change(frame))).save(tmp_path / str(number) / "1.png")
    plain, turned = (take_fingerprint(tmp_path / str(number)) for number in (0, 1))
    assert np.bitwise_count(plain.light ^ turned.light ^ MIRROR).sum() <= 3
    assert np.bitwise_count(plain.light ^ turned.light).sum() > ALIKE
    assert np.abs(plain.colour[:, :, ::-1].astype(int) - turned.colour).max() <= 1


def test_letters_of_light_are_those_of_a_plain_dct(tmp_path: Path) -> None:
    """The signs against a DCT-II from its definition, on a picture drawn at random."""
    from PIL import Image
    from scipy.fft import dctn

    rng = np.random.default_rng(3)
    coarse = rng.integers(30, 226, (32, 32), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(np.kron(coarse, np.ones((4, 4), np.uint8))).save(tmp_path / "a" / "1.png")
    fingerprint = take_fingerprint(tmp_path / "a")
    waves = dctn(coarse.astype(float), norm="ortho")
    order = sorted(
        ((u, v) for u in range(32) for v in range(32) if u + v), key=lambda p: (sum(p), p)
    )[:255]
    expected = [waves[u, v] > 0 for u, v in order]
    bits = np.unpackbits(fingerprint.light.view(np.uint8))
    assert bits[:255].astype(bool).tolist() == expected
    assert bits[255] == 0
    assert np.abs(fingerprint.colour).max() == 0  # grey


def test_turned_clip_is_seen_upright(clips: dict[str, Path], tmp_path: Path) -> None:
    """A copy stored on its side, with the turn written beside it, against the plain one."""
    out = tmp_path / "turned.mp4"
    copy_clip(clips["baby_living_room"], out, Change(frame=lambda frame: np.rot90(frame, 1)))
    upright, sideways = take_fingerprint(clips["baby_living_room"]), take_fingerprint(out)
    assert Gallery([upright]).find(sideways) == []
    content = bytearray(out.read_bytes())
    # The track header's matrix (ISO/IEC 14496-12, 8.3.2), 40 bytes behind its version.
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30
    )
    out.write_bytes(content)
    (match,) = Gallery([upright]).find(take_fingerprint(out))
    assert match.sure


def test_cropped_copy_is_beyond_it(
    clips: dict[str, Path], fingerprints: dict[str, Fingerprint], tmp_path: Path
) -> None:
    """Stated in the documentation; a change for the better has to change it there too."""
    copy = copy_clip(clips["baby_living_room"], tmp_path / "c.mp4", Change(frame=cropped))
    assert Gallery(list(fingerprints.values())).find(take_fingerprint(copy)) == []


def _still(path: Path, brightness: int, frames: int = 16) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        for _ in range(frames):
            pixels = np.full((64, 64, 3), brightness, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_blank_clips_are_not_all_one_clip(tmp_path: Path) -> None:
    black, grey = (take_fingerprint(_still(tmp_path / f"{n}.mp4", n)) for n in (0, 128))
    assert black.readable
    assert len(black.ticks) == 0
    gallery = Gallery([black, grey])
    assert gallery.blank == 2
    assert gallery.find(grey) == []


def test_times_are_the_clock_s_not_the_frames(tmp_path: Path, clips: dict[str, Path]) -> None:
    slow = copy_clip(clips["baby_living_room"], tmp_path / "s.mp4", CHANGES["2 frames a second"])
    assert np.diff(take_fingerprint(slow).ticks).tolist() == [4] * (
        len(take_fingerprint(slow).ticks) - 1
    )


def test_unreadable_clip_gives_its_cause(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    (tmp_path / "empty").mkdir()
    assert not (one := take_fingerprint(tmp_path / "a.mp4")).readable
    assert one.damage is not None
    assert one.damage.startswith("cannot be read as a video (")
    assert take_fingerprint(tmp_path / "empty").damage == "it holds no frame"
    assert (
        take_fingerprint(tmp_path / "absent.mp4").damage
        == "cannot be opened (No such file or directory)"
    )


def _old(path: Path) -> None:
    """Changed an hour ago: what is younger than two seconds may change again unseen."""
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


def test_fingerprints_are_kept_until_the_clip_changes(
    tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.gif"
    path.write_bytes(clips["tgif_cat_drinks"].read_bytes())
    _old(path)
    for taken in (1, 0):
        with FingerprintCache(1) as cache:
            (found,) = [fingerprint for _, fingerprint in cache.fingerprints([path])]
            assert (cache.taken, cache.kept) == (taken, 1 - taken)
    fresh = take_fingerprint(path)
    for name in ("ticks", "light", "colour"):
        assert np.array_equal(getattr(found, name), getattr(fresh, name))
    path.write_bytes(clips["tgif_bulldog_hose"].read_bytes())
    with FingerprintCache(1) as cache:
        list(cache.fingerprints([path]))
        assert cache.taken == 1


def test_fingerprints_not_committed_yet_hold_up_no_other_process(
    tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.gif"
    path.write_bytes(clips["tgif_cat_drinks"].read_bytes())
    _old(path)
    with FingerprintCache(1, now=lambda: 0.0) as cache:  # no second passes
        list(cache.fingerprints([path]))
        other = sqlite3.connect(cache.file, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("COMMIT")
        list(cache.fingerprints([path]))
        assert (cache.taken, cache.kept) == (1, 1)
    assert other.execute("SELECT count(*) FROM looks").fetchone() == (1,)
    other.close()


def test_full_disk_only_costs_the_cache(tmp_path: Path, clips: dict[str, Path]) -> None:
    paths = [str(path) for path in clips.values()]
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from sharegptvideo.data.validate.fingerprint import FingerprintCache\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "with FingerprintCache(1) as cache:\n"
        "    found = list(cache.fingerprints(map(Path, sys.argv[1:])))\n"
        "print(len(found), cache.taken, cache.problem)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *paths],
        env={**os.environ, "SHAREGPTVIDEO_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("5 5 ")
    assert "fingerprints are not kept (" in done.stdout


@pytest.fixture
def leaking(release: Release, tmp_path: Path, clips: dict[str, Path]) -> tuple[Path, list[Path]]:
    """A folder with one clip leaked as a copy, a missing clip, a broken one; and its media."""
    train, test = tmp_path / "media" / "train", tmp_path / "media" / "test" / "webvid"
    train.mkdir(parents=True)
    test.mkdir(parents=True)
    copy_clip(clips["baby_living_room"], train / "renamed.mp4", CHANGES["middle half"])
    (train / "cat.gif").write_bytes(clips["tgif_cat_drinks"].read_bytes())
    (train / "broken.mp4").write_bytes(b"x" * 500)
    (test / "room.mp4").write_bytes(clips["baby_living_room"].read_bytes())
    folder = release(
        {
            "train/qa/a.jsonl": [
                *(qa(1, "cat"), qa(2, "renamed"), qa(3, "renamed")),
                *(qa(4, "broken"), qa(5, "gone")),
            ],
            "test/webvid.qa.jsonl": [qa(6, "test/webvid/room")],
        }
    )
    return folder, [tmp_path / "media"]


def test_media_are_checked_and_compared(leaking: tuple[Path, list[Path]]) -> None:
    folder, media = leaking
    report = validate(folder, media=media, workers=1)
    assert findings_of(report) == [
        ("missing-media", "error", "a.jsonl:5"),
        ("unreadable-media", "error", "a.jsonl:4"),
        ("leak-sight", "error", "a.jsonl:2"),
    ]
    leak = report.sorted_findings()[-1].message
    assert leak.startswith("renamed (2 rows) shows what test/webvid/room of webvid_qa shows: 100 %")
    assert ", from its second 1." in leak
    sight = report.facts["sight"]
    assert (sight["test_clips"], sight["training_clips"], sight["training_clips_found"]) == (
        1,
        2,
        1,
    )
    assert report.skipped == {}


def test_clips_are_not_compared_unless_asked(leaking: tuple[Path, list[Path]]) -> None:
    folder, media = leaking
    report = validate(folder, media=media, compare_clips=False, workers=1)
    assert [check for check, _, _ in findings_of(report)] == ["missing-media", "unreadable-media"]
    assert report.skipped == {"leak-sight": "clips were not compared, as asked"}
    assert set(validate(folder).skipped) == {
        *("missing-media", "ambiguous-media", "unreadable-media", "leak-sight")
    }
