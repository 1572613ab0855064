"""What judging costs: the growth of time by hand, what is measured, and prices of the table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sharegptvideo.study.catalogue import load_experiment
from sharegptvideo.study.cost import PAPER_ANSWERS, Cost, growth
from sharegptvideo.study.kind import Done, Result
from sharegptvideo.study.node import Work
from sharegptvideo.study.scales import SCALES
from sharegptvideo.synthetic import Sizes, build_world


def test_growth_by_hand() -> None:
    """Logs (0, 0), (1, 1), (2, 1): slope 1/2, residuals −1/6, 1/3, −1/6, so se² = (1/6) / 1 / 2.

    One degree of freedom: t is 12.706.
    """
    points = [(1.0, 1.0), (math.e, math.e), (math.e**2, math.e)]
    grown = growth([{"n": n, "seconds": seconds} for n, seconds in points])
    assert (grown.exponent, grown.se, grown.degrees) == (
        pytest.approx(0.5),
        pytest.approx((1 / 12) ** 0.5),
        1,
    )
    half = 12.7062 * (1 / 12) ** 0.5
    assert grown.ci95 == pytest.approx((0.5 - half, 0.5 + half), rel=1e-4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    sizes = Sizes(train=1, preference=2, test=1, out_of_domain=1, images=1)
    build_world(folder, seed=0, sizes=sizes, workers=1)
    return folder


@pytest.mark.parametrize(
    ("way", "clips"), [("rules", (0, 0)), ("caption", (0, 0)), ("frames", (1, 2))]
)
def test_measured_by_way(way: str, clips: tuple[int, int], world: Path, tmp_path: Path) -> None:
    """Four questions a clip, six answers each: 30 answers are of two clips, 2 of one."""
    settings = {"way": way, "sizes": [2, 30], "repeats": 2}
    runs = Cost.stages["judging_cost"].work(Work(tmp_path, settings, {"world": world}))["runs"]
    assert [(run["n"], run["repeat"]) for run in runs] == [(2, 0), (30, 0), (2, 1), (30, 1)]
    assert tuple(run["clips"] for run in runs[:2]) == clips
    assert all(run["seconds"] > 0 for run in runs)
    few, many = (run["bytes"] for run in runs[:2])
    if way == "rules":
        assert (few, many) == (0, 0)
    else:
        assert many / 30 == pytest.approx(few / 2, rel=0.1)
    if way == "frames":  # eight pictures an answer
        assert few / 2 > 8 * 500


def test_prices_and_a_null_result() -> None:
    """Frames of gpt-4o: eight pictures of 800 tokens at $2.50 a million, $1,920 for all answers.

    Beside them stands a prompt that has no caption, so less than the caption's. Time that grows
    with n exactly by both ways is what was declared.
    """
    result = _result(frames_power=1.0)
    paper = {row["level"]: row for row in result.tables["paper"]}
    caption, frames = paper["caption, gpt-4o"]["dollars"], paper["frames, gpt-4o"]["dollars"]
    assert 1920 < frames < 1920 + caption
    assert paper["caption, gpt-4o"]["hours_served"] == pytest.approx(120_000 * 2 / 32 / 3600)
    assert paper["answer-match"]["dollars"] == 0
    rows = [row for row in result.table if row["level"] == "frames, gpt-4o"]
    assert [row["dollars"] for row in rows] == pytest.approx(
        [frames * row["n"] / PAPER_ANSWERS for row in rows]
    )
    timed = {row["level"] for row in result.table if row["seconds_here"] is not None}
    assert timed == {"answer-match", "caption, gpt-3.5-turbo", "frames, gpt-4o-mini"}
    assert [row["way"] for row in result.tables["growth"]] == ["rules", "caption", "frames"]
    assert "a difference of +0.000" in result.says[0]
    assert "as declared beforehand" in result.says[0]
    assert "$2,210.10 by frames, gpt-4o" in result.says[1]


def test_one_that_scales_worse_refutes() -> None:
    assert "which refutes what was declared" in _result(frames_power=1.2).says[0]


def _result(frames_power: float) -> Result:
    """Analyse made-up times: 1 ms an answer, for frames to a power of n, all but exact."""
    experiment = load_experiment("judging_cost")
    plan = Cost().plan(experiment, SCALES["small"], [0])
    done = {}
    for where, nodes in plan.items():
        settings = nodes["measured"].settings
        power = frames_power if settings["way"] == "frames" else 1.0
        runs = [
            {
                "n": n,
                "repeat": repeat,
                "seconds": n**power * (1 + 1e-4 * repeat) / 1000,
                "bytes": 100 * n,
                "clips": 0,
            }
            for repeat in range(3)
            for n in settings["sizes"]
        ]
        done[where] = {"measured": Done(Path(), {"runs": runs}, 1.0)}
    assert sorted({run["n"] for run in runs}) == [50, 200, 1000, 4000, 20000]
    return Cost().analyse(experiment, done)
