"""Validation is split off by video, alike in every training set."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import read_rows
from sharegptvideo.data.sources import SplitRule
from sharegptvideo.data.sources.splits import stem_of
from sharegptvideo.errors import UserError

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

CLIPS = [f"clip_{number}" for number in range(400)]


def _write_all(write: Write, qa_row: Row) -> None:
    rows = [qa_row(3 * n + k, clip) for n, clip in enumerate(CLIPS) for k in range(3)]
    write("train/qa/a.jsonl", *rows)
    write("train/pretrain/video_caption_pretrain.jsonl", *(dict(row) for row in rows[::3]))
    write("train/sft/a.jsonl", *rows)
    pairs = [
        {
            "id": row["id"],
            "video": f"train/{row['video']}.mp4",
            "prompt": "Q",
            "chosen": "A",
            "rejected": "B",
        }
        for row in rows
    ]
    write("train/dpo/a.jsonl", *pairs)


def test_no_video_of_validation_is_in_any_train(release: Path, write: Write, qa_row: Row) -> None:
    _write_all(write, qa_row)
    names = ("captions", "qa", "sft", "preferences")
    sides: dict[str, set[str]] = {"train": set(), "validation": set()}
    for name in names:
        count = 0
        for split, videos in sides.items():
            rows = list(read_rows(name, release, split))
            count += len(rows)
            found = {Path(row["video"]).stem for row in rows}
            assert found, (name, split)
            videos |= found
        assert count == (400 if name == "captions" else 1200)
    assert not sides["train"] & sides["validation"]
    assert sides["train"] | sides["validation"] == set(CLIPS)


def test_ids_do_not_depend_on_the_split_read(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", *[qa_row(1, clip) for clip in CLIPS])
    both = list(read_rows("qa", release, "train+validation"))
    assert sorted(row["id"] for row in both) == sorted(
        ["q1", *(f"q1#{n}" for n in range(2, len(CLIPS) + 1))]
    )


def test_share_is_about_one_percent() -> None:
    rule = SplitRule()
    count = sum(rule.split_of(f"video{n}") == "validation" for n in range(20_000))
    # Binomial: 200 expected, standard deviation 14.
    assert 140 < count < 260


def test_rule_is_the_documented_one() -> None:
    import hashlib

    for stem in CLIPS:
        digest = hashlib.sha256(f"sharegptvideo/validation/{stem}".encode()).hexdigest()
        expected = "validation" if int(digest[:16], 16) / 2**64 < 0.01 else "train"
        assert SplitRule().split_of(stem) == expected
        assert SplitRule().split_of(f"test/set/{stem}.mp4") == expected


def test_a_source_with_its_own_list_decides(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", *[qa_row(n, clip) for n, clip in enumerate(CLIPS)])
    listed = release / "splits.json"
    listed.write_text(json.dumps({"train": [], "validation": ["clip_5", "clip_7"]}))
    rows = list(read_rows("qa", release, "validation"))
    assert [row["video"] for row in rows] == ["clip_5", "clip_7"]
    listed.write_text(json.dumps({"train": CLIPS}))
    assert not list(read_rows("qa", release, "validation"))
    assert len(list(read_rows("qa", release))) == len(CLIPS)
    listed.write_text("[1]")
    with pytest.raises(UserError, match=r"splits\.json: expected"):
        list(read_rows("qa", release))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("test/webvid/a.b.mp4", "a.b"),  # as it was for these endings
        ("clip.JPEG", "clip"),
        ("v_1QIUV7WYKXg-Scene-001", "v_1QIUV7WYKXg-Scene-001"),
        ("1.5 m", "1.5 m"),
        ("dir\\clip.MTS", "clip"),  # those of every clip that is found
        ("clip.m2ts", "clip"),
        ("clip.webp", "clip"),
        ("cafe\u0301.mp4", "caf\xe9"),  # an accent after its letter, and as one sign
        ("notes.txt", "notes.txt"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_the_side_of_a_clip_is_that_of_its_stem() -> None:
    """Whatever its ending and the Unicode form of its name; computed beside the package."""
    for number in range(300):
        stem = f"caf\xe9_{number}"
        digest = hashlib.sha256(f"sharegptvideo/validation/{stem}".encode()).digest()
        side = "validation" if int.from_bytes(digest[:8], "big") * 100 < 2**64 else "train"
        names = [stem, f"x/{stem}.m2ts", unicodedata.normalize("NFD", stem) + ".OGV"]
        assert {SplitRule().split_of(name) for name in names} == {side}
