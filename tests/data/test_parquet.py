"""A folder of Parquet made from our own rows reads back as those rows."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.publish.shards import write_split
from sharegptvideo.data.schema import config_of
from sharegptvideo.data.sources import DataWarning, ReadReport
from sharegptvideo.errors import UserError

NAMES = ("captions", "preferences", "sft")


@pytest.fixture
def shards(shared_data: Path, tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).mkdir()
        table = load_dataset(name, data_dir=shared_data / "release")
        for number in range(2):
            part = table.shard(2, number, contiguous=True)
            part.to_parquet(str(tmp_path / name / f"train-{number:05d}-of-00002.parquet"))
    return tmp_path


@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_rows_come_back(shards: Path, shared_data: Path) -> None:
    for name in NAMES:
        rows = list(read_rows(name, shared_data / "release"))
        assert list(read_rows(name, shards)) == rows
        assert list(load_dataset(name, data_dir=shards)) == rows
        assert list(load_dataset(name, data_dir=shards, streaming=True)) == rows


@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_split_without_files_is_an_error(shards: Path) -> None:
    with pytest.raises(UserError, match=r"captions has no split 'validation' here \(found: train"):
        list(read_rows("captions", shards, "validation"))
    with pytest.raises(UserError, match=r"captions has no split 'validation' here \(found: train"):
        load_dataset("captions", "validation", data_dir=shards)


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


def _captions(count: int) -> list[dict[str, str]]:
    return [
        {"id": f"c{n}", "video": f"v{n}", "source": "s", "prompt": "p", "caption": f"text {n}"}
        for n in range(count)
    ]


def test_shard_missing_beside_its_neighbours(tmp_path: Path) -> None:
    for number in (0, 2):
        folder = tmp_path / "captions"
        folder.mkdir(exist_ok=True)
        name = f"train-{number:05d}-of-00003.parquet"
        pq.write_table(pa.Table.from_pylist(_captions(1)), folder / name)
    with pytest.raises(UserError) as caught:
        list(read_rows("captions", tmp_path))
    assert str(caught.value) == (
        f"{folder}: 2 of the 3 files *-of-00003.parquet; fetch or write the split again"
    )


def test_shards_of_two_writings(tmp_path: Path) -> None:
    folder = tmp_path / "captions"
    folder.mkdir()
    for name in ("train-00000-of-00001.parquet", "train-00000-of-00002.parquet"):
        pq.write_table(pa.Table.from_pylist(_captions(1)), folder / name)
    with pytest.raises(UserError, match=r"captions: 1 of the [12] files \*-of-0000[12]\.parquet"):
        list(read_rows("captions", tmp_path))


def test_broken_page(tmp_path: Path) -> None:
    path = tmp_path / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(_captions(5000)), path, row_group_size=2500)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable Parquet file \("):
        list(read_rows("captions", tmp_path))


def test_other_types_of_text(tmp_path: Path) -> None:
    rows = _captions(10)
    table = pa.Table.from_pylist(rows)
    wide = pa.schema([(name, pa.large_string()) for name in table.column_names])
    coded = table.set_column(4, "caption", table["caption"].dictionary_encode())
    for number, other in enumerate((table.cast(wide), coded)):
        path = tmp_path / str(number) / "captions" / "train-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(other, path)
        assert list(read_rows("captions", tmp_path / str(number))) == rows


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    columns = {name: [b"a", b"b"] for name in ("id", "video", "source", "prompt")}
    values = {name: pa.array(column).view(pa.string()) for name, column in columns.items()}
    values["caption"] = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    path = tmp_path / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table(values), path)
    with pytest.raises(UserError) as caught:
        list(read_rows("captions", tmp_path))
    assert str(caught.value).startswith(f"{path}: row 2: not UTF-8 text (byte 3)")


def test_reading_needs_no_datasets(tmp_path: Path) -> None:
    path = tmp_path / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(_captions(3)), path)
    code = (
        "import sys\nfrom sharegptvideo import read_rows\n"
        f"rows = list(read_rows('captions', {str(tmp_path)!r}))\n"
        "print(len(rows), 'datasets' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"


def test_flipped_bits_never_give_other_rows(tmp_path: Path) -> None:
    """Pages carry checksums that are written and read; unread, six flips of ten go unseen."""
    draw = random.Random(3)
    words = ["".join(draw.choices("abcdefgh", k=5)) for _ in range(500)]
    rows = [row | {"caption": " ".join(draw.choices(words, k=30))} for row in _captions(200)]
    write_split(rows, config_of("captions"), "train", tmp_path)
    (path,) = (tmp_path / "captions").glob("*.parquet")
    whole, right, refused = path.read_bytes(), list(read_rows("captions", tmp_path)), 0
    for _ in range(40):
        spoilt = bytearray(whole)
        spoilt[draw.randrange(4, len(whole) * 3 // 4)] ^= 1 << draw.randrange(8)
        path.write_bytes(spoilt)
        try:
            assert list(read_rows("captions", tmp_path)) == right
        except UserError:
            refused += 1
    assert refused > 30
