"""Streams give the rows of the table, typed as they are read, and in parts to several readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.schema import CONFIGS, features
from sharegptvideo.data.sources.columns import arrow_schema
from sharegptvideo.data.sources.tables import PART_BYTES

Row = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")


@pytest.mark.parametrize("name", ["captions", "sft", "preferences"])
def test_stream_gives_what_the_table_gives(name: str, shared_data: Path) -> None:
    source = shared_data / "release"
    stream = load_dataset(name, data_dir=source, streaming=True)
    rows = list(read_rows(name, source))
    assert list(stream) == rows == list(load_dataset(name, data_dir=source))
    assert stream.features == features(name)
    # What is done to streams: columns go, change type, are added; rows are mixed and shared out.
    assert next(iter(stream.remove_columns("id"))).keys() == rows[0].keys() - {"id"}
    assert next(iter(stream.map(lambda row: {"n": len(row["id"])})))["n"] == len(rows[0]["id"])
    mixed = list(stream.shuffle(seed=0, buffer_size=3))
    assert sorted(row["id"] for row in mixed) == sorted(row["id"] for row in rows)
    assert list(stream.shard(1, 0)) == rows
    assert list(stream.skip(2).take(1)) == rows[2:3]
    columns = [column for column in stream.features if column != "messages"]
    assert [table.num_rows for table in stream.select_columns(columns).with_format("arrow")] == [
        1 for _ in rows
    ]


def test_cast_still_casts(shared_data: Path) -> None:
    stream = load_dataset("preferences", data_dir=shared_data / "release", streaming=True)
    cast = stream.cast_column("chosen_score", datasets.Value("string"))
    scores = [row["chosen_score"] for row in stream]
    assert any(score is not None for score in scores)
    found = [row["chosen_score"] for row in cast]
    assert [None if one is None else float(one) for one in found] == scores
    assert all(one is None or isinstance(one, str) for one in found)


def test_place_in_the_stream_is_kept(shared_data: Path) -> None:
    stream = load_dataset("qa", data_dir=shared_data / "release", streaming=True)
    rows = list(stream)
    reader = iter(stream)
    assert [next(reader), next(reader)] == rows[:2]
    state = stream.state_dict()
    again = load_dataset("qa", data_dir=shared_data / "release", streaming=True)
    again.load_state_dict(state)
    assert list(again) == rows[2:]


def ids_of(rows: Any) -> list[str]:
    return [row["id"] for row in rows]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Questions in two files with row groups of three rows: five parts."""
    folder = tmp_path / "parquet" / "qa"
    folder.mkdir(parents=True)
    rows = [
        {"id": f"q{n}", "video": f"clip_{n}", "source": "made", "question": "Q?", "answer": "A."}
        for n in range(13)
    ]
    schema = arrow_schema(CONFIGS["qa"])
    for number, some in enumerate((rows[:7], rows[7:])):
        table = pa.Table.from_pylist(some, schema=schema)
        pq.write_table(table, folder / f"train-0000{number}-of-00002.parquet", row_group_size=3)
    return folder.parent


@pytest.fixture
def large(release: Path, qa_row: Callable[..., Row]) -> Path:
    """A file of three parts, with ids twice, one of them over two parts, and a broken line."""
    rows = [qa_row(n % 8, caption=f"{n} " + "a b " * (PART_BYTES // 20)) for n in range(12)]
    lines = [json.dumps(row) + "\n" for row in rows]
    lines.insert(6, "{\n")
    path = release / "video_instruction" / "train" / "qa" / "a.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return release


@pytest.mark.parametrize(("form", "parts"), [("parquet", 5), ("large", 3)])
def test_parts_together_are_the_rows(form: str, parts: int, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(form)
    expected = ids_of(read_rows("qa", source, on_error="skip"))
    stream = load_dataset("qa", data_dir=source, streaming=True, on_error="skip")
    assert stream.num_shards == parts
    assert ids_of(stream) == expected
    each = [ids_of(stream.shard(parts, index)) for index in range(parts)]
    assert all(each)
    assert [name for part in each for name in part] == expected
    assert sorted(ids_of(stream.shuffle(seed=1, buffer_size=4))) == sorted(expected)


@pytest.mark.parametrize("form", ["parquet", "large"])
def test_each_loader_worker_reads_a_part(form: str, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(form)
    expected = ids_of(read_rows("qa", source, on_error="skip"))
    stream = load_dataset("qa", data_dir=source, streaming=True, on_error="skip")
    worker = stream.map(lambda _: {"worker": _worker()})
    rows = list(DataLoader(worker, batch_size=None, num_workers=2))
    assert sorted(ids_of(rows)) == sorted(expected)
    assert {row["worker"] for row in rows} == {0, 1}


def _worker() -> int:
    from torch.utils.data import get_worker_info

    info = get_worker_info()
    assert info is not None
    return info.id


def test_each_part_says_what_it_skipped(large: Path) -> None:
    stream = load_dataset("qa", data_dir=large, streaming=True, on_error="skip")
    each = [stream.shard(3, index) for index in range(3)]
    with pytest.warns(UserWarning, match="1 row skipped, breaking the schema") as caught:
        assert all(map(ids_of, each))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="1 row skipped, breaking the schema") as caught:
        list(stream)
    assert len(caught) == 1


def test_place_within_parts_is_kept(parquet: Path) -> None:
    stream = load_dataset("qa", data_dir=parquet, streaming=True)
    rows = list(stream)
    for count in (1, 3, 8):
        reader = iter(stream)
        assert [next(reader) for _ in range(count)] == rows[:count]
        again = load_dataset("qa", data_dir=parquet, streaming=True)
        again.load_state_dict(stream.state_dict())
        assert list(again) == rows[count:]


def test_rows_before_a_broken_one_come_first(large: Path) -> None:
    reader = iter(load_dataset("qa", data_dir=large, streaming=True))
    assert len([next(reader) for _ in range(6)]) == 6
    with pytest.raises(Exception, match=r"a\.jsonl:7: not JSON"):
        next(reader)
