"""`require_media=True`: rows without a readable clip are left out, and reported."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.schema import features
from sharegptvideo.data.sources import DataWarning, ReadReport
from sharegptvideo.errors import UserError
from sharegptvideo.media.index import index_media

Python = Callable[..., str]
Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Clips 1 and 3 of 4; the third is no video."""
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "clip_1.mp4").write_bytes(b"x")
    (folder / "clip_3.mp4").write_bytes(b"x")
    return folder


@pytest.fixture
def rows(release: Path, write: Write, qa_row: Row) -> Path:
    """Five questions on clips 1 to 4; clip 2 has two."""
    write("train/qa/a.jsonl", *(qa_row(n) for n in range(1, 5)), qa_row(5, "clip_2"))
    return release


def plain(*args: Any, **options: Any) -> list[dict[str, Any]]:
    return list(read_rows(*args, **options))


def table(name: str, source: Path, **options: Any) -> list[dict[str, Any]]:
    return list(load_dataset(name, data_dir=source, **options))


def stream(name: str, source: Path, **options: Any) -> list[dict[str, Any]]:
    return list(load_dataset(name, data_dir=source, streaming=True, **options))


READERS = pytest.mark.parametrize("read", [plain, table, stream])


@READERS
def test_rows_without_their_clip_are_left_out(rows: Path, media: Path, read: Any) -> None:
    everything = read("qa", rows, media=media)
    kept = read("qa", rows, media=media, require_media=True)
    assert kept == [row for row in everything if row["video_path"] is not None]
    assert [row["id"] for row in kept] == ["q1", "q3"]
    assert read("qa", rows, media=media) == everything, "nothing of it is cached"


@READERS
def test_it_says_how_many(rows: Path, media: Path, read: Any) -> None:
    with pytest.warns(DataWarning) as caught:
        read("qa", rows, media=media, require_media=True)
    assert sorted(str(warning.message) for warning in caught) == [
        "2 videos not found: clip_2; clip_4",
        "3 rows left out for want of a readable video: q2; q4; q5",
    ]


@pytest.mark.parametrize("read", [plain, table])
def test_the_report_lists_them(rows: Path, media: Path, read: Any) -> None:
    report = ReadReport()
    read("qa", rows, media=media, require_media=True, report=report)
    assert report.without_media == ["q2", "q4", "q5"]
    assert report.missing_videos == ["clip_2", "clip_4"]
    assert report.unreadable_videos == []


@READERS
def test_what_the_index_lists_as_unreadable_is_left_out_until_it_changes(
    rows: Path, media: Path, read: Any
) -> None:
    index_media(media)  # finds that neither file is a video
    with pytest.warns(DataWarning) as caught:
        assert read("qa", rows, media=media, require_media=True) == []
    reported = {str(warning.message) for warning in caught}
    assert "2 videos unreadable, says the index of the media: clip_1; clip_3" in reported
    assert "5 rows left out for want of a readable video: q1; q2; q3; and 2 more" in reported
    (media / "clip_1.mp4").write_bytes(b"a whole video by now")
    os.utime(media / "clip_3.mp4", (1, 1))
    kept = read("qa", rows, media=media, require_media=True)
    assert [row["id"] for row in kept] == ["q1", "q3"]


@READERS
def test_paths_are_given_for_unreadable_clips_where_none_is_required(
    rows: Path, media: Path, read: Any
) -> None:
    index_media(media)
    paths = [row["video_path"] for row in read("qa", rows, media=media)]
    assert paths == [str(media / "clip_1.mp4"), None, str(media / "clip_3.mp4"), None, None]


@READERS
def test_rows_that_name_no_medium_stay(release: Path, write: Write, media: Path, read: Any) -> None:
    talk = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    write(
        "train/sft/a.jsonl",
        {"id": "text", "conversations": talk},
        {"id": "image", "image": "a.jpg", "conversations": talk},
        {"id": "gone", "image": "b.jpg", "conversations": talk},
        {"id": "there", "video": "clip_1", "conversations": talk},
        {"id": "absent", "video": "clip_2", "conversations": talk},
    )
    (media / "a.jpg").write_bytes(b"x")
    kept = read("sft", release, media=media, require_media=True)
    assert [row["id"] for row in kept] == ["text", "image", "there"]
    assert [row["video_path"] for row in kept] == [None, None, str(media / "clip_1.mp4")]
    assert [row["image_path"] for row in kept] == [None, str(media / "a.jpg"), None]


def test_both_splits(rows: Path, media: Path) -> None:
    (rows / "splits.json").write_text('{"validation": ["clip_1", "clip_2"]}')
    report = ReadReport()
    split = "train+validation"
    found = load_dataset("qa", split, data_dir=rows, media=media, require_media=True, report=report)
    assert found["id"] == ["q3", "q1"]
    assert sorted(report.without_media) == ["q2", "q4", "q5"]
    plain_rows = read_rows("qa", rows, split, media=media, require_media=True)
    assert [row["id"] for row in plain_rows] == ["q3", "q1"]


def test_a_split_of_which_nothing_stays(rows: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    found = load_dataset("qa", data_dir=rows, media=empty, require_media=True)
    assert len(found) == 0
    assert found.features == features("qa", media=True)
    assert stream("qa", rows, media=empty, require_media=True) == []


def test_the_stream_travels_to_worker_processes(rows: Path, media: Path) -> None:
    found = load_dataset("qa", data_dir=rows, media=media, require_media=True, streaming=True)
    next(iter(found))
    assert [row["id"] for row in pickle.loads(pickle.dumps(found))] == ["q1", "q3"]


@READERS
def test_it_needs_a_folder(rows: Path, read: Any) -> None:
    with pytest.raises(UserError, match="require_media= needs media=, the folder with the videos"):
        read("qa", rows, require_media=True)


def test_by_the_registered_name(rows: Path, media: Path, python: Python) -> None:
    code = f"""
import sharegptvideo, datasets, warnings
warnings.simplefilter("ignore")
from sharegptvideo.errors import UserError
options = dict(data_dir={str(rows)!r}, split="train", require_media=True)
for streaming in (False, True):
    found = datasets.load_dataset(
        "sharegptvideo", "qa", media={str(media)!r}, streaming=streaming, **options
    )
    print([row["id"] for row in found])
part = datasets.load_dataset(
    "sharegptvideo", "qa", media={str(media)!r}, **(options | {{"split": "train[2:]"}})
)
print(part["id"][:])
try:
    datasets.load_dataset("sharegptvideo", "qa", **options)
except UserError as error:
    print(error)
"""
    kept = "['q1', 'q3']\n"
    refused = "require_media= needs media=, the folder with the videos and images\n"
    assert python(code) == f"{kept}{kept}['q3']\n{refused}"
