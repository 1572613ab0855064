"""Every experiment, all of its levels, at a scale that only shows that all works.

One file: the tests share the worlds and the models that they start from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json
from sharegptvideo.study import list_experiments, load_experiment, run_study


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def run(name: str, out: Path, seeds: int = 1) -> dict[str, Any]:
    return run_study([name], out, scale="tiny", seeds=seeds, processes=1)[Path(name).stem]


def written(out: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in (out / "stages").rglob("*")}


@pytest.mark.parametrize("name", [one.name for one in list_experiments()])
def test_runs_whole_and_once(name: str, out: Path) -> None:
    experiment = load_experiment(name)
    made = run(name, out)
    result = read_json(out / "results" / f"{name}.json")
    assert result == json.loads(json.dumps(made))
    # Where levels are asked of the same thing they may be columns or several rows: none is lost.
    said = {str(value) for row in result["table"] for value in row.values()}
    columns = set(result["table"][0])
    assert all(level in said | columns for level in experiment.levels)
    assert all(row.keys() == columns for row in result["table"])
    if experiment.kind == "arms":
        assert [row["level"] for row in result["table"]] == list(experiment.levels)
    contrast = result["contrast"]
    if contrast is not None:
        assert {key: contrast[key] for key in ("of", "against", "expect")} == {
            key: getattr(experiment.contrast, key) for key in ("of", "against", "expect")
        }
        assert contrast["holds"] is None or contrast["ci95"] is None  # one seed shows nothing
    assert len(result["says"]) == 2
    assert all(each.endswith(".") and "None" not in each for each in result["says"])
    assert result["charts"]
    assert (result["state"], result["scale"]) == ("part", "tiny")
    assert result["experiment"]["name"] == name
    assert sum(result["seconds"].values()) > 0

    before = written(out)
    assert run(name, out) == made
    assert written(out) == before


def test_two_seeds_have_intervals(out: Path) -> None:
    """Where their gains differ; these models learn so little that all may be 0."""
    result = run("video_used", out, seeds=2)
    assert result["seeds"] == [0, 1]
    assert {row["n_seeds"] + bool(result["notes"]) for row in result["table"]} <= {2, 3}
    for row in result["table"]:
        assert row["gain"] == pytest.approx(sum(row["gains"]) / 2)
        if row["gains"][0] == row["gains"][1]:
            assert row["low"] is row["high"] is None
        else:
            assert row["low"] < row["gain"] < row["high"]
    assert result["contrast"]["n_seeds"] == 2
