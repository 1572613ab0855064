"""A rating sheet and its key: who is asked what, what the page holds, and what it must not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_judges, judge_predictions
from sharegptvideo.reports.sheet import SheetOptions, write_sheet

Answers = dict[str, str]
SECRET = ("zebra", "quagga")  # names of the runs

# The runs say the same of a_1 and c_1.
FIRST = {"a_0": "red", "a_1": "yes", "b_0": "red", "b_1": "no", "c_0": "blue", "c_1": "no"}
SECOND = FIRST | {"a_0": "It is red.", "b_0": "green", "b_1": "yes", "c_0": "</script><b>blue</b>"}


@pytest.fixture
def runs(small_release: Any, tmp_path: Path) -> list[Path]:
    """Two finished runs; `c_0` of the second holds the end of a script."""
    made = []
    for name, answers in zip(SECRET, (FIRST, SECOND), strict=True):
        file = tmp_path / f"{name}.jsonl"
        write_jsonl(file, ({"id": key, "prediction": text} for key, text in answers.items()))
        folder = small_release.folder
        judge_predictions(file, ["msvd_qa"], "exact", tmp_path / name, data_dir=folder)
        made.append(tmp_path / name)
    return made


def asked(sheet: Path) -> dict[str, Any]:
    """What the page's script is given."""
    (text,) = re.findall(r"const SHEET = (.*);\n", sheet.read_text("utf-8"))
    held: dict[str, Any] = json.loads(text)
    return held


def test_two_runs_give_pairs_of_different_answers(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "sheet.html"
    made = write_sheet(runs, out)
    assert (made["kind"], made["n"], made["n_shared"]) == ("preferences", 4, 6)
    assert made["n_same"] == {"0 1": 2}
    sheet, key = asked(out), read_json(tmp_path / "sheet.key.json")
    assert (sheet["kind"], len(sheet["items"])) == ("preferences", 4)
    assert [each["name"] for each in key["runs"]] == list(SECRET)
    questions = set()
    for item in sheet["items"]:
        known = key["items"][item["id"]]
        questions.add(known["id"])
        assert known["id"] not in item["id"]
        for text, answer in zip(item["answers"], known["answers"], strict=True):
            assert text == answer["text"] == (FIRST, SECOND)[answer["run"]][known["id"]]
        assert {answer["run"] for answer in known["answers"]} == {0, 1}
    assert questions == {"a_0", "b_0", "b_1", "c_0"}


def test_the_page_says_nothing_of_the_runs_and_loads_nothing(
    runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "given" / "sheet.html"
    write_sheet(runs, out, SheetOptions(copy_clips=True))
    page = out.read_text("utf-8")
    key = read_json(tmp_path / "given" / "sheet.key.json")
    secrets = [*SECRET, "exact", "msvd_qa", "whole picture", '"run"']
    secrets += [each["id"] for each in key["items"].values()]
    shown = page.partition("<style>")[0] + page.partition("</style>")[2]
    assert not [word for word in secrets if word in shown]
    names = {name for item in asked(out)["items"] for name in item}
    assert names == {"id", "video", "question", "answers", "frames"}
    script = page.partition("<script>")[2]
    assert not re.search(r"https?:|@import|url\(|<script src|fetch|XMLHttp|WebSocket", page)
    assert "default-src &#39;none&#39;" in page
    assert script.count("</script>") == 1  # an answer does not end it
    assert "\\u003c/script>\\u003cb>blue" in script


def test_a_seed_gives_the_same_bytes_and_another_one_another_order(
    runs: list[Path], tmp_path: Path
) -> None:
    files = [tmp_path / f"{name}.html" for name in ("one", "two", "three")]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        write_sheet(runs, file, SheetOptions(seed=seed))
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    shown = [[item["question"] + item["video"] for item in asked(file)["items"]] for file in files]
    assert shown[0] != shown[2]
    assert Counter(shown[0]) == Counter(shown[2])


def test_both_orders_of_the_answers_come_up(runs: list[Path], tmp_path: Path) -> None:
    """Of forty pairs each order has half but for a probability of 1e-9 to have less than 3."""
    first = Counter[int]()
    for seed in range(10):
        write_sheet(runs, tmp_path / f"{seed}.html", SheetOptions(seed=seed))
        key = read_json(tmp_path / f"{seed}.key.json")
        first.update(item["answers"][0]["run"] for item in key["items"].values())
    assert first.total() == 40
    assert min(first[0], first[1]) >= 3


def test_three_runs_are_compared_two_at_a_time(
    runs: list[Path], small_release: Any, tmp_path: Path
) -> None:
    file = tmp_path / "third.jsonl"
    write_jsonl(file, ({"id": key, "prediction": f"{text}!"} for key, text in FIRST.items()))
    folder = small_release.folder
    judge_predictions(file, ["msvd_qa"], "exact", tmp_path / "third", data_dir=folder)
    made = write_sheet([*runs, tmp_path / "third"], tmp_path / "s.html")
    assert made["n_same"] == {"0 1": 2, "0 2": 0, "1 2": 0}
    key = read_json(tmp_path / "s.key.json")
    pairs = Counter(
        tuple(sorted(answer["run"] for answer in item["answers"])) for item in key["items"].values()
    )
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}


def test_one_run_gives_ratings_that_the_judge_is_held_against(
    runs: list[Path], tmp_path: Path
) -> None:
    """Two people on four answers of the first run: exact calls b_0 and b_1 as the key has them."""
    out = tmp_path / "sheet.html"
    made = write_sheet(runs[:1], out, SheetOptions(questions=4))
    assert (made["kind"], made["n"], made["n_same"]) == ("ratings", 4, {})
    ids = [item["id"] for item in asked(out)["items"]]
    assert all(len(item["answers"]) == 1 for item in asked(out)["items"])
    votes = {"ann": (True, True, False, False), "bob": (True, False, False, True)}
    files = []
    for rater, said in votes.items():
        files.append(tmp_path / f"{rater}.jsonl")
        lines = zip(ids, said, strict=True)
        write_jsonl(files[-1], ({"id": i, "correct": yes, "rater": rater} for i, yes in lines))
    key = tmp_path / "sheet.key.json"
    result = compare_judges(runs[0], *files, key=key)
    # Where they differ there is no majority, and so no verdict.
    assert (result["n_shared"], result["n_unscored"]["second"], result["all"]["n"]) == (4, 2, 2)
    between = result["between_raters"]
    assert (between["n"], between["agreement"]["value"]) == (4, 0.5)
    assert between["pairs"][0]["kappa"]["value"] == 0  # half is what chance gives
    one = compare_judges(runs[0], files[0], key=key)
    names = [read_json(key)["items"][each]["id"] for each in ids]
    right = {"a_0": 1, "a_1": 1, "b_0": 0, "b_1": 1, "c_0": 1, "c_1": 1}
    same = [right[name] == yes for name, yes in zip(names, votes["ann"], strict=True)]
    assert one["all"]["agreement"]["value"] == sum(same) / 4
    assert one["between_raters"] is None
    # The second run's answers are other ones, but for two.
    other = compare_judges(runs[1], files[0], key=key)
    assert other["n_other_answer"] == sum(FIRST[name] != SECOND[name] for name in names)
    with pytest.raises(UserError, match="its --key"):
        compare_judges(runs[0], files[0])
    with pytest.raises(UserError, match="a second verdict on"):
        compare_judges(runs[0], files[0], files[0], key=key)


def test_clips_are_shown_from_where_they_are_or_copied(runs: list[Path], tmp_path: Path) -> None:
    """The release keeps clips as folders of frames; eight of ten are shown."""
    out = tmp_path / "pages" / "sheet.html"
    write_sheet(runs, out)
    for item in asked(out)["items"]:
        assert len(item["frames"]) == 8
        assert all((out.parent / name).is_file() for name in item["frames"])
    write_sheet(runs, out, SheetOptions(copy_clips=True))
    names = [name for item in asked(out)["items"] for name in item["frames"]]
    assert all(name.startswith("sheet.clips/") for name in names)
    assert {f"sheet.clips/{path.name}" for path in (out.parent / "sheet.clips").iterdir()} == set(
        names
    )


def test_a_clip_that_is_missing_is_named(
    runs: list[Path], small_release: Any, tmp_path: Path
) -> None:
    for frame in (small_release.clips / "b").iterdir():
        frame.unlink()
    (small_release.clips / "b").rmdir()
    made = write_sheet(runs, tmp_path / "sheet.html")
    assert made["missing_clips"] == ["test/msvd/b"]
    result = CliRunner().invoke(
        app, ["study", "sheet", *map(str, runs), "--out", str(tmp_path / "sheet.html")]
    )
    assert result.exit_code == 0, result.output
    assert "1 clip missing: test/msvd/b; give --media" in result.stderr


def test_mistakes(runs: list[Path], small_release: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a name that ends in \.html"):
        write_sheet(runs, tmp_path / "sheet")
    with pytest.raises(UserError, match="is given twice"):
        write_sheet([runs[0], runs[0]], tmp_path / "s.html")
    with pytest.raises(UserError, match="no run folder"):
        write_sheet([tmp_path], tmp_path / "s.html")
    with pytest.raises(UserError, match="questions must be at least 1"):
        SheetOptions(questions=0)
    same = tmp_path / "same"
    file = runs[0] / "predictions.jsonl"
    judge_predictions(file, ["msvd_qa"], "exact", same, data_dir=small_release.folder)
    with pytest.raises(UserError, match="the same answer to all 6 questions"):
        write_sheet([runs[0], same], tmp_path / "s.html")
    assert not list(tmp_path.glob("s.*"))
    with pytest.raises(UserError, match=r"no such folder; say with --data-dir where it is now$"):
        write_sheet(runs, tmp_path / "s.html", SheetOptions(data_dir=tmp_path / "gone"))
    write_sheet(runs, tmp_path / "s.html")
    with pytest.raises(UserError, match="is the key of another sheet"):
        write_sheet(runs, tmp_path / "s.html", SheetOptions(questions=2))
    write_sheet(runs, tmp_path / "s.html")  # the same one again is no other
