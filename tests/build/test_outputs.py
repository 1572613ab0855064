"""The dataset of a stage: two forms with the same rows, loaded once, provenance beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from sharegptvideo import load_dataset
from sharegptvideo._io import read_json, read_jsonl, write_json
from sharegptvideo.build.outputs import FILES, write_dataset
from sharegptvideo.build.stage import Context, provenance
from sharegptvideo.errors import UserError
from sharegptvideo.models import Answer, Request, SamplingParams
from tests.build.engines.test_run_stage import Echo

Row = dict[str, Any]

COLUMNS: dict[str, Row] = {
    "captions": {"prompt": "What happens?", "caption": "A dog runs."},
    "qa": {"question": "Who runs?", "answer": "A dog.", "caption": "A dog runs."},
    "preferences": {
        "prompt": "Who runs?",
        "chosen": "A dog.",
        "rejected": "A cat.",
        "chosen_score": 5.0,
        "rejected_score": 1.0,
        "answer": "A dog.",
        "caption": None,
    },
}


def made(row: Row) -> Row:
    """What a stage says of a row, by the function that all stages use."""
    answer = Answer(Request("?"), ("!",), answered_by="vlm-1", attempts=2, dollars=0.25)
    return provenance(
        Echo(),
        row,
        model="openai:vlm",
        prompt=(3, "ab" * 8),
        params=SamplingParams(seed=7),
        answers=[answer],
        context=Context(),
        frame_indices=[0, 5],
    )


def rows_of(config: str, count: int) -> list[Row]:
    rows = [
        {"id": f"r{n}", "video": f"clips/v{n}.mp4", "source": None} | COLUMNS[config]
        for n in range(count)
    ]
    return [row | {"made": made(row)} for row in rows]


@pytest.mark.parametrize("config", COLUMNS)
def test_a_dataset_loads_with_its_columns_and_each_row_once(config: str, tmp_path: Path) -> None:
    report = write_dataset(config, rows_of(config, 3), tmp_path)
    assert (report.n_rows, report.n_videos, report.n_left_out) == (3, 3, 0)
    expected = [{k: v for k, v in row.items() if k != "made"} for row in rows_of(config, 3)]
    assert load_dataset(config, data_dir=tmp_path).to_list() == expected
    (shard,) = (tmp_path / config).glob("*.parquet")
    shard.unlink()  # the release's form alone gives the same
    (tmp_path / config).rmdir()
    assert load_dataset(config, data_dir=tmp_path).to_list() == expected


def test_where_a_row_came_from_stands_in_both_forms(tmp_path: Path) -> None:
    write_dataset("captions", rows_of("captions", 1), tmp_path)
    (table,) = (parquet.read_table(path) for path in tmp_path.glob("captions/*.parquet"))
    (expected,) = (row["made"] | {"flags": []} for row in rows_of("captions", 1))
    assert table["made"].to_pylist() == [expected]
    (row,) = (row for _, row in read_jsonl(tmp_path / FILES["captions"]))
    assert row["made"] == expected
    assert row["conversations"] == [
        {"from": "human", "value": "<video>\nWhat happens?"},
        {"from": "gpt", "value": "A dog runs."},
    ]


def test_flagged_rows_are_left_out_or_marked_and_counted_either_way(tmp_path: Path) -> None:
    flags = {"r0": ["refusal", "short"], "r2": ["short"]}
    report = write_dataset("qa", rows_of("qa", 4), tmp_path, flags=flags)
    assert load_dataset("qa", data_dir=tmp_path)["id"][:] == ["r1", "r3"]
    assert (report.n_rows, report.n_flagged, report.n_left_out) == (2, 2, 2)
    assert report.flags == {"refusal": 1, "short": 2}

    write_dataset("captions", rows_of("captions", 1), tmp_path)
    report = write_dataset("qa", rows_of("qa", 4), tmp_path, flags=flags, keep_all=True)
    assert load_dataset("qa", data_dir=tmp_path)["id"][:] == ["r0", "r1", "r2", "r3"]
    assert (report.n_rows, report.n_flagged, report.n_left_out) == (4, 2, 0)
    kept = {row["id"]: row["made"]["flags"] for _, row in read_jsonl(tmp_path / FILES["qa"])}
    assert kept == {"r0": ["refusal", "short"], "r1": [], "r2": ["short"], "r3": []}
    written = read_json(tmp_path / "dataset.json")
    assert written.keys() == {"captions", "qa"}
    assert {name: written["qa"][name] for name in report.as_dict()} == report.as_dict()


def test_a_folder_with_videos_for_validation_keeps_them_apart(tmp_path: Path) -> None:
    write_json(tmp_path / "splits.json", {"validation": ["v1"]})
    write_dataset("captions", rows_of("captions", 3), tmp_path)
    splits = load_dataset("captions", data_dir=tmp_path, split=None)
    assert {name: rows["id"][:] for name, rows in splits.items()} == {
        "train": ["r0", "r2"],
        "validation": ["r1"],
    }


def test_nothing_is_written_of_rows_that_are_wrong(tmp_path: Path) -> None:
    write_dataset("captions", rows_of("captions", 2), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    rows = rows_of("captions", 5000)
    for rows[4321]["id"], error in (("r17", "rows 18 and 4322 have the same id"), ("", "'id'")):
        with pytest.raises(UserError, match=f"captions: .*{error}"):
            write_dataset("captions", rows, tmp_path)
    rows[4321] |= {"id": "r4321", "made": {"weather": "fine"}}
    with pytest.raises(UserError, match="row 4322: unknown 'made' weather"):
        write_dataset("captions", rows, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_rows_make_no_files_and_those_of_an_earlier_time_go(tmp_path: Path) -> None:
    write_dataset("captions", rows_of("captions", 2), tmp_path)
    report = write_dataset(
        "captions", rows_of("captions", 2), tmp_path, flags={"r0": ["a"], "r1": ["a"]}
    )
    assert (report.n_rows, report.n_left_out) == (0, 2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dataset.json", "splits.json"]
