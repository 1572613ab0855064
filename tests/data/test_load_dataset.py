"""`load_dataset`: the same rows as `read_rows`, as a table or a stream, never stale."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.builder import OneReading
from sharegptvideo.data.schema import CONFIGS, features
from sharegptvideo.data.sources import DataWarning, ReadReport
from sharegptvideo.data.sources.release import ReleaseSource
from sharegptvideo.errors import UserError

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
@pytest.mark.parametrize("name", ["captions", "qa", "sft", "preferences", "tgif_qa"])
def test_table_stream_and_plain_rows_are_the_same(shared_data: Path, name: str) -> None:
    source = shared_data / "release"
    split = CONFIGS[name].splits[0]
    rows = list(read_rows(name, source, split))
    table = load_dataset(name, split, data_dir=source)
    stream = load_dataset(name, split, data_dir=source, streaming=True)
    assert table.features == stream.features == features(name)
    assert list(table) == rows
    assert list(stream) == rows
    assert list(stream) == rows, "a second pass"


def test_changed_file_gives_fresh_rows(release: Path, write: Write, qa_row: Row) -> None:
    path = write("train/qa/a.jsonl", qa_row(1))
    assert load_dataset("qa", data_dir=release)["answer"] == ["It is 1."]
    path.write_text(path.read_text().replace("It is 1.", "It is 9."))
    assert load_dataset("qa", data_dir=release)["answer"] == ["It is 9."]
    write("train/qa/b.jsonl", qa_row(2))
    assert load_dataset("qa", data_dir=release)["id"] == ["q1", "q2"]
    (release / "splits.json").write_text('{"validation": ["clip_1"]}')
    assert load_dataset("qa", data_dir=release)["id"] == ["q2"]


def test_unchanged_file_is_read_from_the_cached_table(
    release: Path, write: Write, qa_row: Row
) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    first = load_dataset("qa", data_dir=release).cache_files
    assert load_dataset("qa", data_dir=release).cache_files == first
    assert first[0]["filename"].startswith(os.environ["SHAREGPTVIDEO_CACHE"])


def test_empty_validation_is_an_empty_table(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    table = load_dataset("qa", "validation", data_dir=release)
    assert (len(table), table.features) == (0, features("qa"))
    assert list(load_dataset("qa", "validation", data_dir=release, streaming=True)) == []
    assert len(load_dataset("qa", "train+validation", data_dir=release)) == 1


def test_both_splits_together(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1), qa_row(2))
    (release / "splits.json").write_text('{"validation": ["clip_1"]}')
    for streaming in (False, True):
        rows = load_dataset("qa", "train+validation", data_dir=release, streaming=streaming)
        assert [row["id"] for row in rows] == ["q2", "q1"]


@pytest.mark.parametrize("streaming", [False, True])
def test_broken_row_is_one_user_error(
    release: Path, write: Write, qa_row: Row, streaming: bool
) -> None:
    path = write("train/qa/a.jsonl", qa_row(1), "{")
    with pytest.raises(UserError) as caught:
        list(load_dataset("qa", data_dir=release, streaming=streaming))
    assert str(caught.value).startswith(f"{path}:2: not JSON")


def test_skipped_rows_are_told_again_when_the_table_is_cached(
    release: Path, write: Write, qa_row: Row
) -> None:
    path = write("train/qa/a.jsonl", qa_row(1), "{")
    for _ in range(2):
        report = ReadReport()
        with pytest.warns(DataWarning, match="1 row skipped, breaking the schema"):
            table = load_dataset("qa", data_dir=release, on_error="skip", report=report)
        assert len(table) == 1
        assert [line.split(": ")[0] for line in report.skipped] == [f"{path}:2"]
    with pytest.raises(UserError):
        load_dataset("qa", data_dir=release)


def test_stream_tells_what_it_skipped(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1), "{")
    stream = load_dataset("qa", data_dir=release, streaming=True, on_error="skip")
    with pytest.warns(DataWarning, match="1 row skipped, breaking the schema"):
        assert len(list(stream)) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_video_path_is_looked_up_each_time(
    release: Path, write: Write, qa_row: Row, tmp_path: Path, streaming: bool
) -> None:
    write("train/qa/a.jsonl", qa_row(1), qa_row(2))
    media = tmp_path / "media"
    media.mkdir()
    (media / "clip_1.mp4").write_bytes(b"x")

    def paths() -> list[str | None]:
        rows = load_dataset("qa", data_dir=release, media=media, streaming=streaming)
        assert rows.features == features("qa", media=True)
        return [row["video_path"] for row in rows]

    with pytest.warns(DataWarning, match="1 video not found, video_path is null: clip_2"):
        assert paths() == [str(media / "clip_1.mp4"), None]
    (media / "clip_2.mp4").write_bytes(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert paths() == [str(media / f"clip_{n}.mp4") for n in (1, 2)]


def test_stream_with_media_travels_to_worker_processes(
    release: Path, write: Write, qa_row: Row, tmp_path: Path
) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    (tmp_path / "clip_1.mp4").write_bytes(b"x")
    stream = load_dataset("qa", data_dir=release, media=tmp_path, streaming=True)
    next(iter(stream))
    assert list(pickle.loads(pickle.dumps(stream))) == list(stream)


def test_unknown_names(release: Path) -> None:
    with pytest.raises(UserError, match=r"unknown dataset 'qas'; did you mean qa"):
        load_dataset("qas", data_dir=release)
    with pytest.raises(UserError, match=r"unknown split of qa 'test'"):
        load_dataset("qa", "test", data_dir=release)
    with pytest.raises(UserError, match=r"no video_instruction/train/dpo/\*\.jsonl"):
        load_dataset("preferences", data_dir=release)


@pytest.mark.parametrize(("limit", "readings"), [(1 << 20, 1), (0, 2)])
def test_both_splits_are_written_from_one_reading(
    release: Path, write: Write, qa_row: Row, limit: int, readings: int
) -> None:
    write("train/qa/a.jsonl", qa_row(1), qa_row(2), "{", qa_row(3))
    (release / "splits.json").write_text('{"validation": ["clip_2"]}')
    config, asked = CONFIGS["qa"], []

    class Counted(ReleaseSource):
        def tables(self, config: Any, splits: Any, *args: Any, **options: Any) -> Any:
            asked.append(list(splits))
            return super().tables(config, splits, *args, **options)

    source, reading, report = Counted(release), OneReading(limit), ReadReport()
    ids = {
        split: [
            name
            for table in reading.tables(config, source, split, "skip", report)
            for name in table["id"].to_pylist()
        ]
        for split in ("train", "validation")
    }
    assert ids == {"train": ["q1", "q3"], "validation": ["q2"]}
    assert asked == [["train", "validation"], ["validation"]][:readings]
    assert len(report.skipped) == readings  # `ReadReport.merge` lists a line once
