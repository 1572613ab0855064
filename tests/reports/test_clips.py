"""Clips on pages: which play, when their frames are shown, and what lies beside the page."""

from __future__ import annotations

import base64
import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sharegptvideo.media.video import read_timeline
from sharegptvideo.reports.clips import Wanted, clip_part, remove_others, write_sprites
from sharegptvideo.reports.parts import Clip, Page, Section, pages_near


def encoded(path: Path, codec: str = "libx264", times: list[int] | None = None) -> Path:
    """Write 12 frames of 64×48, each a step brighter, at 10 a second or at `times` (tenths)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p"
        stream.options = {"bf": "2"}
        for number in range(12):
            pixels = np.full((48, 64, 3), 20 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_frames_have_the_times_that_players_show_them_at(tmp_path: Path) -> None:
    even = read_timeline(encoded(tmp_path / "even.mp4"), "even", [0, 3, 11])
    assert even.times == pytest.approx((0.0, 0.3, 1.1))
    assert even.seconds == pytest.approx(1.2, abs=0.11)
    assert even.plays
    # Frames that stay for longer and longer: a frame's number says nothing of its time.
    uneven = [number * number for number in range(12)]
    line = read_timeline(encoded(tmp_path / "uneven.mp4", times=uneven), "uneven", [0, 3, 11])
    assert line.times == pytest.approx((0.0, 0.9, 12.1))


@pytest.mark.parametrize(
    ("name", "codec", "plays"),
    [("a.mp4", "libx264", True), ("a.webm", "libvpx", True), ("a.mp4", "mpeg4", False),
     ("a.mkv", "libx264", False), ("a.avi", "libx264", False)],
)  # fmt: skip
def test_what_browsers_do_not_play_has_no_file(
    tmp_path: Path, name: str, codec: str, plays: bool
) -> None:
    clip = clip_part(encoded(tmp_path / name, codec), 4, tmp_path / "page", name="a")
    assert clip.file == (f"../{name}" if plays else "")
    assert clip.indices == (0, 3, 7, 11)
    picture = Image.open(io.BytesIO(base64.b64decode(clip.frames.partition(",")[2])))
    assert picture.size == (4 * 64, 48)
    brightness = [picture.convert("L").getpixel((64 * n + 32, 24)) for n in range(4)]
    assert brightness == pytest.approx([0, 60, 140, 220], abs=12)


def test_marks_stand_at_the_frames_times() -> None:
    clip = Clip("a", "x.jpg", (64, 48), (0, 5, 9), (0.0, 0.25, 1.5), 2.0)
    assert clip.marks == [(0.0, "0.0 s", 0.0), (12.5, "0.3 s", 0.25), (75.0, "1.5 s", 1.5)]
    untimed = Clip("a", "x.jpg", (64, 48), (0, 5, 9))
    assert untimed.marks == [(0.0, "0", None), (50.0, "5", None), (100.0, "9", None)]
    many = Clip("a", "x.jpg", (64, 48), range(16), [n / 8 for n in range(16)], 2.0).marks
    assert [bool(label) for _, label, _ in many] == [True, False] * 8


def test_clips_are_copied_where_they_are_small_or_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {
        ("t", "a"): Wanted(str(encoded(tmp_path / "a b.mp4")), 4),
        ("t", "b"): Wanted(str(encoded(tmp_path / "b.avi", "mpeg4")), 4, (0, 1, 2, 3)),
    }
    out = tmp_path / "out"
    sprites = write_sprites(wanted, out)
    copied = sprites["t", "a"].video
    assert (out / copied).read_bytes() == (tmp_path / "a b.mp4").read_bytes()
    assert sprites["t", "b"].video == ""
    assert (sprites["t", "a"].moved, sprites["t", "b"].moved) == (False, True)
    assert sprites["t", "a"].times == pytest.approx((0.0, 0.3, 0.7, 1.1))
    linked = write_sprites(wanted, out, copy_clips=False)
    assert linked["t", "a"].video == "../a%20b.mp4"
    monkeypatch.setattr("sharegptvideo.reports.clips.COPIED_BYTES", 1)
    assert write_sprites(wanted, out) == linked
    assert write_sprites(wanted, out, copy_clips=True) == sprites
    monkeypatch.undo()
    # Another clip under the name: the picture and the copy of the earlier one go.
    os.utime(tmp_path / "a b.mp4", (1, 1))
    again = write_sprites(wanted, out)
    assert again["t", "a"].video != copied
    remove_others(out, again.values())
    held = {f"{file.parent.name}/{file.name}" for file in out.rglob("*.*") if file.is_file()}
    assert held == {each for one in again.values() for each in (one.file, one.video) if each}


def test_pages_beside_each_other_are_linked(tmp_path: Path) -> None:
    def written(folder: str, kind: str) -> Path:
        page = Page("t", "l", [Section("s", "x")], kind=kind, links=pages_near(tmp_path / folder))
        return page.write(tmp_path / folder / "index.html")

    written(".", 'Demo "1"')
    written("report", "Report of dpo")
    written("other", "")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("<title>Somebody else's</title>")
    page = written("board", "Leaderboard").read_text(encoding="utf-8")
    assert pages_near(tmp_path / "board") == [
        ("../index.html", 'Demo "1"'),
        ("../report/index.html", "Report of dpo"),
    ]
    assert '<a href="../report/index.html">Report of dpo</a>' in page
    assert pages_near(tmp_path) == [
        ("board/index.html", "Leaderboard"),
        ("report/index.html", "Report of dpo"),
    ]


def test_a_list_of_contents_leads_to_every_section() -> None:
    sections = [Section("What it is: all", "x"), Section("Second", "x", "mine")]
    page = Page("t", "l", sections, contents=True).html()
    assert '<a href="#what-it-is-all">What it is: all</a><a href="#mine">Second</a>' in page
    assert 'id="what-it-is-all"' in page
    assert "nav" not in Page("t", "l", sections).html().partition("</style>")[2]
