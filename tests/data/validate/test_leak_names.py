"""Training videos among the test videos, by name: what counts as one video, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.data.validate import validate
from sharegptvideo.data.validate.videos import Videos, name_key
from sharegptvideo.errors import UserError
from tests.support.faulty_rows import findings_of, qa

Release = Callable[[dict[str, list[Any]]], Path]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("abc", "test/webvid/abc.mp4", True),
        ("ABC.MP4", "abc", True),
        ("a\\b\\abc", "abc", True),
        ("v_AbCdEfGhIjK-Scene-003", "test/actnet/v_AbCdEfGhIjK-Scene-011", True),
        # MSVD's seconds and ActivityNet's mark stand beside a YouTube id.
        ("v_AbCdEfGhIjK", "AbCdEfGhIjK_12_20.avi", True),
        ("AbCdEfGhIjK_1_5", "AbCdEfGhIjK_12_20", True),
        ("abc_1", "abc_2", False),
        ("abc.1", "abc.2", False),
        ("v_short", "short", False),
        ("scene-1", "scene-2", False),
    ],
)
def test_what_one_video_is(one: str, other: str, same: bool) -> None:
    assert (name_key(one) == name_key(other)) is same


@pytest.mark.parametrize(
    ("train", "source", "test", "config", "expected"),
    [
        ("1234", "WebVid", "test/webvid/1234", "webvid_qa", [True]),
        ("1234", "WebVid", "test/ssv2/1234", "ssv2_qa", []),
        ("1234", "release", "test/ssv2/1234", "ssv2_qa", [False]),
        ("webvid/1234", None, "1234", "webvid_qa", [True]),
        ("video77", "MSRVTT", "video77", "msrvtt_qa", [True]),
        ("video77", "release", "video77", "msrvtt_qa", [False]),
        ("dog_77", "release", "dog_77", "webvid_qa", [True]),
    ],
)
def test_bare_numbers_belong_to_several_sets(
    train: str, source: str | None, test: str, config: str, expected: list[bool]
) -> None:
    videos = Videos()
    videos.add("train", train, "qa", source, 0)
    videos.add("test", test, config, None, 0)
    assert [sure for _, _, sure in videos.same_name("test")] == expected


def test_leak_is_reported_once_for_a_video_with_both_places(release: Release) -> None:
    files = {
        "train/qa/a.jsonl": [qa(1, "fox"), qa(2, "dog"), qa(3, "dog-Scene-001"), qa(4, "dog")],
        "test/webvid.qa.jsonl": [qa(5, "test/webvid/cat"), qa(6, "test/webvid/DOG.mp4")],
    }
    report = validate(release(files))
    assert findings_of(report) == [
        ("leak-name", "error", "a.jsonl:2"),
        ("leak-name", "error", "a.jsonl:3"),
    ]
    first = report.findings[0].message
    assert first.startswith("dog (2 rows) is test/webvid/DOG.mp4 of webvid_qa, ")
    assert first.endswith("webvid.qa.jsonl:2")


def test_validation_video_in_training_is_a_warning(release: Release) -> None:
    # The rule of the splits goes by the whole stem, so scenes of one video may fall apart.
    scenes = [qa(n, f"v_AbCdEfGhIjK-Scene-{n:03d}") for n in range(600)]
    report = validate(release({"train/qa/a.jsonl": scenes}))
    assert report.ok
    assert set(report.rows["qa"]) == {"train", "validation"}
    assert report.count("leak-validation") == report.rows["qa"]["train"]


def test_tests_of_another_folder(release: Release, tmp_path: Path) -> None:
    folder = release({"train/qa/a.jsonl": [qa(1, "dog")]})
    other = release({"train/qa/a.jsonl": [qa(1, "dog")]}).rename(tmp_path / "other")
    folder = release({"train/qa/a.jsonl": [qa(1, "dog")]})
    with pytest.raises(UserError, match=r"other: no test rows to compare with"):
        validate(folder, against=other)
    tests = release({"test/webvid.qa.jsonl": [qa(2, "test/webvid/dog")]})
    (tests / "video_instruction" / "train" / "qa" / "a.jsonl").unlink()
    tests = tests.rename(tmp_path / "tests")
    folder = release({"train/qa/a.jsonl": [qa(1, "dog")]})
    assert (
        validate(folder).skipped["leak-name"] == "there are no test rows; --against FOLDER has some"
    )
    report = validate(folder, against=tests)
    assert findings_of(report) == [("leak-name", "error", "a.jsonl:1")]
    assert f"webvid_qa in {tests}" in report.findings[0].message
    assert "webvid_qa" not in report.rows
