"""Two judges on the same answers: figures by hand and against scipy, intervals, people's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval.agreement import clustered_kappa, compare_judges, kappa, table_kappa

Verdict = tuple[bool | None, float | None]


def make_run(
    path: Path,
    verdicts: dict[str, Verdict],
    *,
    judge: str = "exact",
    answers: dict[str, str] | None = None,
    task: str = "msvd_qa",
) -> Path:
    """A finished run folder; the video of question `v_1` is `v`."""
    path.mkdir()
    about = {"version": 1, "protocol": "official", "judge": {"name": judge}}
    write_json(path / "run.json", {"model": {"spec": "m"}, "judge": judge, "tasks": {task: about}})
    write_json(path / "results.json", {"tasks": {}})
    write_jsonl(
        path / "predictions.jsonl",
        [
            {
                "id": key,
                "task": task,
                "video": key.split("_")[0],
                "question": "?",
                "prediction": (answers or {}).get(key, "a dog"),
                "status": "ok",
            }
            for key in verdicts
        ],
    )
    write_jsonl(
        path / "judgements.jsonl",
        [
            {
                "id": key,
                "task": task,
                "status": "unscored" if correct is None else "scored",
                "correct": correct,
                "score": score,
            }
            for key, (correct, score) in verdicts.items()
        ],
    )
    return path


def test_kappa_by_hand() -> None:
    """20 both yes, 15 both no, 5 and 10 apart: seen 0.7, chance 0.5, so 0.4."""
    a = np.array([1.0] * 20 + [0.0] * 15 + [1.0] * 5 + [0.0] * 10)
    b = np.array([1.0] * 20 + [0.0] * 15 + [0.0] * 5 + [1.0] * 10)
    assert kappa(a, b) == pytest.approx(0.4)
    assert kappa(np.ones(3), np.ones(3)) is None
    assert kappa(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(-1.0)


def test_kappa_of_tables_by_hand() -> None:
    """Three verdicts, 2 1 0 | 0 2 1 | 1 0 2 of 9: seen 6/9, chance 3/9, so 1/2; at any scale."""
    table = np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2]])
    assert table_kappa(table) == pytest.approx(0.5)
    assert table_kappa([table, 7 * table]) == pytest.approx([0.5, 0.5])
    assert np.isnan(table_kappa([[[5, 0], [0, 0]], [[0, 0], [0, 0]]])).all()


def test_kappa_with_its_error_by_hand() -> None:
    """3 both yes, 3 both no, 1 and 1 apart: shares 1/2, so chance c = 1/2, seen 3/4, kappa 1/2.

    q_i + p_j = 2c for every pair, so a pair's part is (1 − 3/4) / (1/2) = 1/2 where equal, −3/2
    where not: squares 6/4 + 2 · 9/4 = 6. Each alone: se² = 8/7 · 6 / 64 = 3/28. In two videos of
    which one has both unequal pairs and one equal, its sum −5/2, the other's 5/2: se² =
    2/1 · 25/2 / 64 = 25/64; t(0.975, 1) = 12.7, so the interval is cut off at −1 and 1.
    """
    a = ["yes"] * 3 + ["no"] * 3 + ["yes", "no"]
    b = ["yes"] * 3 + ["no"] * 3 + ["no", "yes"]
    alone = clustered_kappa(a, b, range(8))
    assert (alone.value, alone.n, alone.n_clusters) == (pytest.approx(0.5), 8, 8)
    assert alone.se == pytest.approx((3 / 28) ** 0.5)
    half = 2.3646243 * (3 / 28) ** 0.5
    assert alone.ci95 == pytest.approx((0.5 - half, 1.0))
    two = clustered_kappa(a, b, ["v"] * 5 + ["w"] * 3)
    assert two.se == pytest.approx(5 / 8)
    assert two.ci95 == (-1.0, 1.0)
    same = clustered_kappa(a, a, range(8))
    assert (same.value, same.se, same.ci95) == (pytest.approx(1.0), None, None)
    alike = clustered_kappa(["yes"] * 3, ["yes"] * 3, "vvw")
    assert (alike.value, alike.se, alike.n, alike.n_clusters) == (None, None, 3, 2)
    assert clustered_kappa([], [], []).value is None
    with pytest.raises(ValueError, match=r"^3 verdicts cannot be paired with 2$"):
        clustered_kappa("yyn", "yn", "abc")


def test_kappa_with_its_error_against_statsmodels() -> None:
    """Four verdicts, each pair a cluster: their formula, without the factor n / (n − 1)."""
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    generator = np.random.default_rng(0)
    a = generator.integers(0, 4, size=300)
    b = np.where(generator.random(300) < 0.6, a, generator.integers(0, 4, size=300))
    table = np.zeros((4, 4))
    np.add.at(table, (a, b), 1)
    expected = inter_rater.cohens_kappa(table)
    found = clustered_kappa(a.tolist(), b.tolist(), range(300))
    assert table_kappa(table) == pytest.approx(expected.kappa)
    assert found.value == pytest.approx(expected.kappa)
    assert found.se == pytest.approx(expected.std_kappa * (300 / 299) ** 0.5)


def test_correlations_against_scipy(tmp_path: Path) -> None:
    """One answer a video with two scores from 1 to 5, so with many ties."""
    from scipy import stats

    generator = np.random.default_rng(0)
    x = generator.integers(1, 6, 300).astype(float)
    y = np.clip(x + generator.integers(-1, 2, 300), 1, 5)
    runs = [
        make_run(
            tmp_path / name,
            {f"v{n}_1": (score > 2, score) for n, score in enumerate(scores.tolist())},
        )
        for name, scores in (("a", x), ("b", y), ("level", np.ones(300)))
    ]
    found = compare_judges(runs[0], runs[1])["all"]
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(x, y)[0])
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(x, y)[0])
    level = compare_judges(runs[2], runs[0])["all"]
    assert (level["pearson"]["value"], level["spearman"]["value"]) == (None, None)


def test_figures_of_two_runs_by_hand(tmp_path: Path) -> None:
    first = make_run(
        tmp_path / "a",
        {
            "u_1": (True, 5),
            "u_2": (True, 4),
            "v_1": (False, 1),
            "w_1": (None, None),
            "x_1": (True, 5),
        },
    )
    second = make_run(
        tmp_path / "b",
        {
            "u_1": (True, 4),
            "u_2": (False, 2),
            "v_1": (False, 2),
            "w_1": (True, 5),
            "y_1": (True, 5),
        },
        judge="openai:j",
    )
    found = compare_judges(first, second)
    assert (found["first"]["judge"], found["second"]["judge"]) == ("exact", "openai:j")
    assert (found["n_shared"], found["n_only_first"], found["n_only_second"]) == (4, 1, 1)
    assert found["n_unscored"] == {"first": 1, "second": 0}
    task = found["tasks"]["msvd_qa"]
    assert task == found["all"]
    assert (task["n"], task["n_clusters"]) == (3, 2)
    assert [side["value"] for side in task["accuracy"]] == pytest.approx([2 / 3, 1 / 3])
    assert task["shift"]["value"] == pytest.approx(-1 / 3)
    assert task["agreement"]["value"] == pytest.approx(2 / 3)
    # Chance: 2/3 * 1/3 + 1/3 * 2/3 = 4/9; (6/9 - 4/9) / (5/9) = 2/5.
    assert task["kappa"]["value"] == pytest.approx(0.4)
    assert task["table"] == {
        "right right": 1, "right wrong": 1, "wrong right": 0, "wrong wrong": 1,
    }  # fmt: skip
    # By score 1, 4, 5: means 2, 2, 4, which rise already.
    calibration = task["calibration"]
    assert [row["score"] for row in calibration] == [1, 4, 5]
    assert [row["mean_score"]["value"] for row in calibration] == [2, 2, 4]
    assert [row["share_right"]["value"] for row in calibration] == [0, 0, 1]


def test_a_calibration_that_falls_is_levelled(tmp_path: Path) -> None:
    """Scores 1, 2, 3 of the first get 2, 4, 3 of the second: 4 and 3 become 3.5 each."""
    first = make_run(tmp_path / "a", {f"v{s}_1": (s >= 3, float(s)) for s in (1, 2, 3)})
    scores = {1: 2.0, 2: 4.0, 3: 3.0}
    second = make_run(
        tmp_path / "b", {f"v{s}_1": (score >= 3, score) for s, score in scores.items()}
    )
    rows = compare_judges(first, second)["all"]["calibration"]
    assert [row["expected_score"] for row in rows] == pytest.approx([2, 3.5, 3.5])


def test_intervals_hold_the_truth_about_as_often_as_they_say(tmp_path: Path) -> None:
    """Verdicts of 80 videos agree with probability 0.8: 40 samples, about 2 misses expected."""
    misses = 0
    for number in range(40):
        generator = np.random.default_rng(number)
        first, second = {}, {}
        for video in range(80):
            for question in range(3):
                right = bool(generator.random() < 0.5)
                same = generator.random() < 0.8
                key = f"v{video}_{question}"
                first[key] = (right, None)
                second[key] = (right if same else not right, None)
        found = compare_judges(
            make_run(tmp_path / f"a{number}", first), make_run(tmp_path / f"b{number}", second)
        )
        low, high = found["all"]["agreement"]["ci95"]
        misses += not low <= 0.8 <= high
        assert "pearson" not in found["all"]
    assert misses <= 6  # more has a probability below 1 %


def test_a_file_of_people(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"u_1": (True, 5), "v_1": (False, 1), "w_1": (True, 4)})
    people = tmp_path / "people.jsonl"
    write_jsonl(people, [{"id": "u_1", "correct": True}, {"id": "v_1", "correct": True}])
    found = compare_judges(run, people)
    assert found["second"] == {"run": str(people), "judge": "people"}
    assert found["all"]["n"] == 2
    assert found["all"]["agreement"]["value"] == 0.5
    assert found["n_only_first"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "u_1", "correct": "yes"}, "people.jsonl:1: a verdict is"),
        ({"correct": True}, "people.jsonl:1: a verdict is"),
        ({"id": "u_1", "correct": True, "score": "5"}, "people.jsonl:1: its score is '5'"),
        ({"id": "zz", "correct": True}, "no question in common"),
    ],
)
def test_files_that_are_none_of_people(tmp_path: Path, line: Any, message: str) -> None:
    run = make_run(tmp_path / "run", {"u_1": (True, 5)})
    people = tmp_path / "people.jsonl"
    write_jsonl(people, [line])
    with pytest.raises(UserError, match=message):
        compare_judges(run, people)


def test_other_answers_are_left_out_or_refused(tmp_path: Path) -> None:
    verdicts: dict[str, Verdict] = {"u_1": (True, 5), "v_1": (False, 1)}
    first = make_run(tmp_path / "a", verdicts)
    second = make_run(tmp_path / "b", verdicts, answers={"u_1": "a cat"})
    found = compare_judges(first, second)
    assert (found["n_other_answer"], found["all"]["n"]) == (1, 1)
    third = make_run(tmp_path / "c", verdicts, answers={"u_1": "a cat", "v_1": "a cow"})
    with pytest.raises(UserError, match="judge other answers"):
        compare_judges(first, third)
    fourth = make_run(tmp_path / "d", verdicts, task="tgif_qa")
    with pytest.raises(UserError, match="no question in common"):
        compare_judges(first, fourth)


def test_the_command_prints_writes_and_draws(tmp_path: Path) -> None:
    verdicts: dict[str, Verdict] = {f"v{n}_1": (n % 2 == 0, float(n % 5 + 1)) for n in range(20)}
    other = {key: (correct, 6 - (score or 0)) for key, (correct, score) in verdicts.items()}
    first = make_run(tmp_path / "a", verdicts)
    second = make_run(tmp_path / "b", other, judge="openai:j")
    words = ["eval", "agreement", str(first), str(second), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    row = result.stdout.splitlines()[1].split()
    assert row[:7] == ["msvd_qa", "20", "20", "50.0", "50.0", "+0.0", "100.0"]
    assert "−1.00" in result.stdout  # scores turned round: no draw differs, so no interval
    assert "−1.00 (" not in result.stdout
    as_json = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(as_json.stdout) == json.loads((tmp_path / "out/agreement.json").read_text())
    with Image.open(tmp_path / "out" / "agreement.png") as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("L").getcolors(256) or []) > 20
