"""A folder of Parquet made from our own rows reads back as those rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.errors import UserError
from sharegptvideo.sources import DataWarning, ReadReport

NAMES = ("captions", "preferences", "sft")


@pytest.fixture
def shards(shared_data: Path, tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).mkdir()
        table = load_dataset(name, source=shared_data / "release")
        for number in range(2):
            part = table.shard(2, number, contiguous=True)
            part.to_parquet(str(tmp_path / name / f"train-{number:05d}-of-00002.parquet"))
    return tmp_path


@pytest.mark.filterwarnings("ignore::sharegptvideo.sources.DataWarning")
def test_rows_come_back(shards: Path, shared_data: Path) -> None:
    for name in NAMES:
        rows = list(read_rows(name, shared_data / "release"))
        assert list(read_rows(name, shards)) == rows
        assert list(load_dataset(name, source=shards)) == rows
        assert list(load_dataset(name, source=shards, streaming=True)) == rows


@pytest.mark.filterwarnings("ignore::sharegptvideo.sources.DataWarning")
def test_split_without_files_is_an_error(shards: Path) -> None:
    with pytest.raises(UserError, match=r"captions has no split 'validation' here \(found: train"):
        list(read_rows("captions", shards, "validation"))
    with pytest.raises(UserError, match=r"captions has no split 'validation' here \(found: train"):
        load_dataset("captions", "validation", source=shards)


def _write(folder: Path, **columns: list[object]) -> Path:
    path = folder / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table(columns), path)
    return path


def test_missing_column(tmp_path: Path) -> None:
    path = _write(tmp_path, id=["a"], video=["v"])
    with pytest.raises(UserError) as caught:
        list(read_rows("captions", tmp_path))
    assert str(caught.value).startswith(f"{path}: no column source, prompt, caption")


def test_row_that_breaks_the_schema(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        id=["a", "b", "c"],
        video=["v", "../v", "w"],
        source=["s", "s", "s"],
        prompt=["p", "p", None],
        caption=["c", "c", "c"],
        extra=[1, 2, 3],
    )
    with pytest.raises(UserError) as caught:
        list(read_rows("captions", tmp_path))
    assert str(caught.value).startswith(f"{path}: row 2: 'video' leads out of its folder")
    report = ReadReport()
    with pytest.warns(DataWarning):
        rows = list(read_rows("captions", tmp_path, on_error="skip", report=report))
    assert [row["id"] for row in rows] == ["a"]
    assert set(rows[0]) == {"id", "video", "source", "prompt", "caption"}
    assert report.skipped[1] == f"{path}: row 3: no 'prompt'"


def test_no_parquet_at_all(tmp_path: Path) -> None:
    path = tmp_path / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError) as caught:
        list(read_rows("captions", tmp_path))
    assert str(caught.value).startswith(f"{path}: not a readable Parquet file")
