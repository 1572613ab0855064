"""Recorded results as run folders: every row counted, and the figures worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_json
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_judges, compare_runs, import_results
from sharegptvideo.reports.leaderboard import collect_runs
from sharegptvideo.reports.run import write_report
from tests.support.archives import entry, link, tar_gz
from tests.support.recorded_results import (
    FILES,
    answers,
    jsonl,
    replies,
    write_archive,
    write_files,
)

DPO_0301, DPO_0613 = (f"dpo.official.gpt-3.5-turbo-{version}" for version in ("0301", "0613"))
SFT_0301 = "sft.official.gpt-3.5-turbo-0301"
GRADED = "dpo.caption-grounded.unknown-judge"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "compile_test_result.tar.gz")


def figures(runs: Path, name: str, task: str = "msvd_qa_official") -> dict[str, Any]:
    found = read_json(runs / name / "results.json")["tasks"][task]
    assert isinstance(found, dict)
    return found


def counts(made: dict[str, Any]) -> dict[str, int]:
    return {entry["reason"]: entry["count"] for entry in made["left_out"]}


def test_each_model_judge_and_protocol_is_a_run_with_its_figures(
    archive: Path, tmp_path: Path
) -> None:
    """Six questions, five answers. Of five replies ours reads three: yes 5, no 4.8, no 0.

    Ours: 1 right of these and the failed one, 1/4; scores (5 + 4.8 + 0 + 0) / 4 = 2.45; the two
    unread ones both wrong or both right, 1/6 to 3/6. The authors': "yes" is in two replies, "no"
    in the other three ("cannot"), 2/5; scores (5 + 4 + 3 + 0) / 4 = 3.
    """
    runs = tmp_path / "runs"
    made = import_results([archive], runs)
    assert sorted(Path(run["run"]).name for run in made["runs"]) == sorted(
        [DPO_0301, DPO_0613, SFT_0301, GRADED]
    )
    dpo = figures(runs, DPO_0301)
    assert [dpo[name] for name in ("n", "n_predicted", "n_failed", "n_scored", "n_unscored")] == [
        6, 5, 1, 3, 2,
    ]  # fmt: skip
    assert dpo["coverage"] == pytest.approx(4 / 6)
    assert dpo["accuracy"]["value"] == pytest.approx(1 / 4)
    assert dpo["accuracy_bounds"] == [pytest.approx(1 / 6), pytest.approx(3 / 6)]
    assert dpo["score"]["value"] == pytest.approx(2.45)
    assert dpo["clusters"] == 3
    assert dpo["failures"] == {"failed when recorded: CUDA error: out of memory": 1}
    assert dpo["paper_accuracy"] == pytest.approx(2 / 5)
    assert dpo["paper_score"] == pytest.approx(3.0)
    assert dpo["paper_n"] == {"accuracy": 5, "score": 4}
    clean = figures(runs, DPO_0613)
    assert clean["accuracy"]["value"] == pytest.approx(3 / 6)
    assert (clean["paper_accuracy"], clean["paper_score"]) == (3 / 5, pytest.approx(16 / 5))
    assert figures(runs, SFT_0301)["n_failed"] == 0


def test_grades_are_read_strictly_and_as_the_authors_do(archive: Path, tmp_path: Path) -> None:
    """4, 2, 4.5; "No number here." is 1 to them, "3, or 3, or 5." is 3; both unread by us.

    Ours: 2 right of 3 and the failed one; (4 + 2 + 4.5 + 1) / 4. Theirs: 4, 4.5 and 3 of 5 are
    right; (4 + 2 + 4.5 + 1 + 3) / 5 = 2.9.
    """
    import_results([archive], tmp_path / "runs")
    graded = figures(tmp_path / "runs", GRADED, "msvd_qa")
    assert (graded["n_scored"], graded["n_unscored"]) == (3, 2)
    assert graded["accuracy"]["value"] == pytest.approx(2 / 4)
    assert graded["score"]["value"] == pytest.approx(11.5 / 4)
    assert (graded["paper_accuracy"], graded["paper_score"]) == (3 / 5, pytest.approx(2.9))


def test_the_judge_is_recorded_and_the_replies_are_kept(archive: Path, tmp_path: Path) -> None:
    import_results([archive], tmp_path / "runs")
    run = tmp_path / "runs" / DPO_0301
    about = read_json(run / "run.json")
    assert about["model"]["name"] == "dpo"
    assert about["judge"] == "recorded:gpt-3.5-turbo-0301"
    judge = about["tasks"]["msvd_qa_official"]["judge"]
    assert (judge["kind"], judge["model"]) == ("recorded", "gpt-3.5-turbo-0301")
    assert about["imported"][0]["path"] == str(archive)
    assert len(about["imported"][0]["sha256"]) == 64
    rows = {row["id"]: row for _, row in read_jsonl(run / "judgements.jsonl")}
    assert rows["a_1"]["reply"] == "{'pred': 'no', 'score': 4.8}"
    assert (rows["a_1"]["correct"], rows["a_1"]["score"]) == (False, 4.8)
    assert rows["c_0"]["status"] == "unscored"
    assert "c_1" not in rows


def test_rows_of_another_form_are_counted_with_the_first_line(
    archive: Path, tmp_path: Path
) -> None:
    made = import_results([archive], tmp_path / "runs")
    assert counts(made) == {
        "a file of another kind, not read": 1,
        "neither an answer nor a reply": 1,
        "not a JSON object": 1,
        "a figure of replies that are not there": 1,
        "a reply to an answer that is not there": 1,
        "no text as the reply (response)": 1,
    }
    by_reason = {entry["reason"]: entry["first"] for entry in made["left_out"]}
    torn = by_reason["not a JSON object"]
    assert torn["file"] == f"{archive}/test_result/msvd/inference_test_official/dpo.jsonl"
    assert (torn["line"], torn["text"]) == (7, "{torn")
    assert by_reason["a reply to an answer that is not there"]["line"] == 6
    assert read_json(tmp_path / "runs" / "import.json") == made


def test_figures_of_the_authors_programs_are_held_against_ours(
    archive: Path, tmp_path: Path
) -> None:
    made = import_results([archive], tmp_path / "runs")
    found = {Path(row["run"]).name: (row["recorded"], row["counted"]) for row in made["checked"]}
    assert found == {
        DPO_0301: ("40.00/3.00", "40.00/3.00"),  # the later of two
        DPO_0613: ("61.00/3.20", "60.00/3.20"),
        GRADED: ("60.00/2.90", "60.00/2.90"),
    }


def test_the_runs_are_taken_like_any_other(archive: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    import_results([archive], runs)
    # Right by 0301: dpo a_0 of those that both runs know; sft a_0, a_1 and c_1.
    compared = compare_runs(runs / SFT_0301, runs / DPO_0301)["tasks"]["msvd_qa_official"]
    assert (compared["n"], compared["n_unscored"]) == (4, 2)
    assert compared["delta"] == pytest.approx((1 - 3) / 4)
    agreed = compare_judges(runs / DPO_0301, runs / DPO_0613)["all"]
    assert agreed["n"] == 3
    assert agreed["agreement"]["value"] == pytest.approx(2 / 3)  # a_1: no and yes
    board = collect_runs([runs / name for name in (DPO_0301, DPO_0613, SFT_0301)])
    assert [group["judge"]["name"] for group in board["groups"]] == [
        "recorded:gpt-3.5-turbo-0301",
        "recorded:gpt-3.5-turbo-0613",
    ]
    assert [row["model"] for row in board["groups"][0]["rows"]] == ["sft", "dpo"]
    report = write_report(runs / DPO_0301, tmp_path / "report", samples=False)
    assert report["tasks"]["msvd_qa_official"]["paper_score"] == 3.0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "40.00 / 3.00" in text
    assert "recorded, not asked" in text


def test_other_judges_may_judge_the_answers_anew(
    archive: Path, small_release: Any, tmp_path: Path
) -> None:
    """Agreement between a recorded judge and one of ours, on the same answers."""
    runs, rules = tmp_path / "runs", tmp_path / "rules"
    import_results([archive], runs)
    words = ["--task", "msvd_qa", "--data-dir", str(small_release.folder), "--out", str(rules)]
    predictions = runs / GRADED / "predictions.jsonl"
    found = CliRunner().invoke(app, ["eval", "judge", "--predictions", str(predictions), *words])
    assert found.exit_code == 0, found.output
    assert read_json(rules / "run.json")["model"]["name"] == "dpo"
    assert compare_judges(runs / GRADED, rules)["n_shared"] == 5


def test_the_data_give_captions_clips_and_the_questions_that_nobody_answered(
    small_release: Any, tmp_path: Path
) -> None:
    rows = answers(["It is red.", "Yes.", "Green.", "No.", "Blue.", "No."])
    rows[1]["query"] = "Is it square?"
    rows.append(rows[0] | {"id": "d_0"})
    files = {
        "msvd/inference_test/dpo.jsonl": jsonl([*rows[:5], rows[6]]),
        "msvd/eval_test/dpo.jsonl": FILES["test_result/msvd/eval_test/dpo.jsonl"],
    }
    runs = tmp_path / "runs"
    made = import_results(
        [write_files(tmp_path / "results", files)], runs, data_dir=small_release.folder
    )
    found = figures(runs, GRADED, "msvd_qa")
    assert (found["n"], found["n_failed"]) == (6, 2)
    assert found["failures"] == {"no answer is recorded": 2}
    assert found["missing_predictions"] == ["a_1", "c_1"]
    assert found["foreign_predictions"] == ["d_0"]
    assert counts(made) == {
        "an answer to another question than that of its id in --data-dir": 1,
        "a reply to an answer that is not there": 1,
    }
    report = write_report(runs / GRADED, tmp_path / "report", media=small_release.folder)
    assert not any("other texts" in note for note in report["notes"])
    assert (tmp_path / "report" / "index.html").is_file()
    assert len(list((tmp_path / "report" / "frames").glob("*.jpg"))) == 3


def test_a_report_may_name_the_data_later(
    archive: Path, small_release: Any, tmp_path: Path
) -> None:
    """What was imported without captions does not count as judged on other texts."""
    runs = tmp_path / "runs"
    import_results([archive], runs)
    report = write_report(runs / GRADED, tmp_path / "report", data_dir=small_release.folder)
    assert report["notes"] == []


def test_the_same_import_again_finishes_what_is_missing(archive: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    import_results([archive], runs)
    whole = {path: path.read_bytes() for path in runs.rglob("*.jsonl")}
    import_results([archive], runs)
    assert {path: path.read_bytes() for path in runs.rglob("*.jsonl")} == whole
    (runs / DPO_0301 / "results.json").unlink()
    log = runs / DPO_0301 / "judgements.jsonl"
    log.write_bytes(whole[log][:-40])  # as a kill leaves it
    import_results([archive], runs)
    assert {path: path.read_bytes() for path in runs.rglob("*.jsonl")} == whole
    assert figures(runs, DPO_0301)["n_scored"] == 3


def test_a_folder_of_another_run_is_refused(archive: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    import_results([archive], runs)
    about = read_json(runs / DPO_0301 / "run.json")
    about["model"]["name"] = "another"
    write_json(runs / DPO_0301 / "run.json", about)
    with pytest.raises(UserError, match="another run"):
        import_results([archive], runs)


@pytest.mark.parametrize("form", ["folder", "pieces", "list"])
def test_folders_pieces_and_lists_give_the_same(archive: Path, tmp_path: Path, form: str) -> None:
    """A folder; every reply in a file of its own, as while the judge is at work; one JSON list."""
    files = dict(FILES)
    name = "test_result/msvd/eval_test_official_gpt-3.5-turbo-0613/dpo.jsonl"
    rows = [json.loads(line) for line in files[name].splitlines()]
    if form != "folder":
        del files[name]
    if form == "pieces":
        for row in rows:
            files[f"{name.removesuffix('.jsonl')}/{row['id']}.json"] = json.dumps(row).encode()
    if form == "list":
        files[f"{name.removesuffix('l')}"] = json.dumps(rows).encode()
    import_results([archive], tmp_path / "one")
    import_results([write_files(tmp_path / "results", files)], tmp_path / "two")
    assert figures(tmp_path / "one", DPO_0613) == figures(tmp_path / "two", DPO_0613)


def test_files_elsewhere_are_placed_by_names_or_options(tmp_path: Path) -> None:
    held = {
        "answers.jsonl": FILES["test_result/msvd/inference_test_official/dpo.jsonl"],
        "replies.jsonl": FILES["test_result/msvd/eval_test_official_gpt-3.5-turbo-0613/dpo.jsonl"],
    }
    files = [write_files(tmp_path, held) / name for name in held]
    with pytest.raises(UserError, match=r"does not name the test set or the model; say --task"):
        import_results(files, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    import_results(files, tmp_path / "runs", task="msvd_qa_official", model="dpo", judge="gpt-x")
    assert figures(tmp_path / "runs", "dpo.official.gpt-x")["paper_accuracy"] == 3 / 5
    named = {
        "compiled/official/msvd_gpt-3.5-turbo-0613/my-dpo.predictions.jsonl": held["answers.jsonl"],
        "compiled/official/msvd_gpt-3.5-turbo-0613/my-dpo.jsonl": held["replies.jsonl"],
    }
    named["compiled/official/msvd/my-dpo.jsonl"] = named.pop(next(iter(named)))
    import_results([write_files(tmp_path / "other", named)], tmp_path / "named")
    found = figures(tmp_path / "named", "my-dpo.official.gpt-3.5-turbo-0613")
    assert found["paper_accuracy"] == 3 / 5


def test_rows_of_the_frame_judge_hold_answer_and_reply(tmp_path: Path) -> None:
    rows = [
        {"id": key, "video": f"frames/msvd/{key[0]}", "prompt": "What?", "prediction": "A dog.",
         "gpt4v_response": f"Explanation: seen.\nScore: {score}"}
        for key, score in (("a_0", 5), ("b_0", 2))
    ]  # fmt: skip
    write_files(tmp_path / "results", {"msvd/gpt4v/dpo.jsonl": jsonl(rows)})
    made = import_results([tmp_path / "results"], tmp_path / "runs")
    (run,) = made["runs"]
    assert (run["model"], run["protocol"], run["judge"]) == ("dpo", "frames", "recorded:gpt4v")
    assert run["tasks"]["msvd_qa"]["paper_accuracy"] == 0.5


def test_answers_without_replies_are_a_run_without_verdicts(tmp_path: Path) -> None:
    write_files(tmp_path / "r", {"tgif/inference_test/m.jsonl": jsonl(answers(["x"] * 6))})
    import_results([tmp_path / "r"], tmp_path / "runs")
    found = figures(tmp_path / "runs", "m.caption-grounded.unknown-judge", "tgif_qa")
    assert (found["n_unscored"], found["coverage"], found["paper_accuracy"]) == (6, 0.0, None)
    assert found["unscored"] == {"no reply is recorded": 6}


def test_of_two_to_one_id_the_last_counts_and_both_are_counted(tmp_path: Path) -> None:
    rows = answers(["one"] * 5 + [None])
    failed = answers([None] * 6)
    official = "msvd/inference_test_official/m.jsonl"
    write_files(
        tmp_path / "r",
        {
            official: jsonl([*rows, rows[0], answers(["two"] * 6)[1], failed[2]]),
            "msvd/eval_test_official_gpt-x/m.jsonl": jsonl(
                [*replies(["{'pred': 'no', 'score': 0}"] * 6),
                 *replies(["{'pred': 'yes', 'score': 5}"])]
            ),
        },
    )  # fmt: skip
    made = import_results([tmp_path / "r"], tmp_path / "runs")
    assert counts(made) == {
        "the same answer again": 1,
        "a second answer to the same id (the last one counts)": 2,
        "a reply to an answer that failed": 1,
        "a second reply to the same id (the last one counts)": 1,
    }
    run = tmp_path / "runs" / "m.official.gpt-x"
    given = {row["id"]: row["prediction"] for _, row in read_jsonl(run / "predictions.jsonl")}
    assert (given["a_1"], given["b_0"]) == ("two", "one")
    assert figures(tmp_path / "runs", run.name)["paper_accuracy"] == 1 / 5


@pytest.mark.parametrize("what", ["outside", "link", "bomb", "cut", "no tar", "nothing"])
def test_an_archive_is_unpacked_under_guard(tmp_path: Path, what: str) -> None:
    whole = tar_gz(FILES)
    content, message = {
        "outside": (tar_gz([entry("../evil.jsonl", b"{}")]), "leads outside the folder"),
        "link": (tar_gz([link("a.jsonl", "/etc/passwd")]), "outside the folder"),
        "bomb": (tar_gz({"a.jsonl": bytes(70 << 20)}), "times its size"),
        "cut": (whole[: len(whole) // 2], "cut off|damaged"),
        "no tar": (b"hello", "not a tar archive"),
        "nothing": (tar_gz({"readme.txt": b"hello"}), "no answers that can be imported"),
    }[what]
    (tmp_path / "results.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        import_results([tmp_path / "results.tar.gz"], tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.tar.gz"]


def test_the_command_shows_figures_and_what_was_left_out(archive: Path, tmp_path: Path) -> None:
    words = ["eval", "import", str(archive), "--to", str(tmp_path / "runs")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert "40.00 / 3.00" in found.stdout
    assert "left out: 1: not a JSON object; first" in found.stderr
    assert "4 run folders" in found.stderr
    assert "recorded figures: 2 of 3 are the same by the paper's counting" in found.stderr
    assert f"{DPO_0613}, msvd_qa_official: 61.00/3.20 recorded, 60.00/3.20 counted" in found.stderr
    found = CliRunner().invoke(app, [*words, "--json"])
    assert len(json.loads(found.stdout)["runs"]) == 4
    for mistake, message in (
        ([str(tmp_path / "none.tar.gz")], "no such file or folder"),
        ([str(archive), "--task", "msvd"], "unknown task"),
        ([str(archive), "--max-bytes", "1k"], "raise --max-bytes"),
        ([str(archive), "--data-dir", str(tmp_path / "none")], "no such data folder"),
    ):
        failed = CliRunner().invoke(app, ["eval", "import", *mistake, "--to", str(tmp_path / "x")])
        assert failed.exit_code in (1, 2)
        assert message in failed.stderr
    assert not (tmp_path / "x").exists()
