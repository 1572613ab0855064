"""A stream says that its rows have their types: `datasets` gives them as they were read."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.schema import features

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")


@pytest.mark.parametrize("name", ["captions", "sft", "preferences"])
def test_stream_gives_what_the_table_gives(name: str, shared_data: Path) -> None:
    source = shared_data / "release"
    stream = load_dataset(name, source=source, streaming=True)
    rows = list(read_rows(name, source))
    assert list(stream) == rows == list(load_dataset(name, source=source))
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
    stream = load_dataset("preferences", source=shared_data / "release", streaming=True)
    cast = stream.cast_column("chosen_score", datasets.Value("string"))
    scores = [row["chosen_score"] for row in stream]
    assert any(score is not None for score in scores)
    found = [row["chosen_score"] for row in cast]
    assert [None if one is None else float(one) for one in found] == scores
    assert all(one is None or isinstance(one, str) for one in found)


def test_place_in_the_stream_is_kept(shared_data: Path) -> None:
    stream = load_dataset("qa", source=shared_data / "release", streaming=True)
    rows = list(stream)
    reader = iter(stream)
    assert [next(reader), next(reader)] == rows[:2]
    state = stream.state_dict()
    again = load_dataset("qa", source=shared_data / "release", streaming=True)
    again.load_state_dict(state)
    assert list(again) == rows[2:]
