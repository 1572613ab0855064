"""Submissions: packed whole and clean, scored anew, and refused where anything was altered."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from sharegptvideo._shipped import shipped
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions
from sharegptvideo.eval.submission import (
    FILES,
    SubmissionInfo,
    public_run,
    public_text,
    read_submission,
    submission_slug,
    submitted_runs,
)
from sharegptvideo.eval.submission_check import (
    BoardSettings,
    board_settings,
    changed_submissions,
    check_submission,
)
from sharegptvideo.eval.submission_make import make_submission
from sharegptvideo.eval.tasks import load_questions, load_task, task_names
from sharegptvideo.judges import open_judge
from sharegptvideo.judges.protocol import load_protocol
from tests.support import benchmark_files
from tests.support.eval_fixtures import COLOURS, NAMES, task_row

INFO = SubmissionInfo(
    name="Small Hound",
    organisation="Example Lab",
    link="https://example.org/small-hound",
    params=10**9,
    licence="Apache-2.0",
)
DAY = "2026-11-27"
ROOT = Path(__file__).parents[2]
ANSWERS = {"a_0": "red", "a_1": "yes", "b_0": "blue", "b_1": "no", "c_0": "blue", "c_1": "yes"}
"""Four of six are right: b_0 and c_1 are not."""

RECORD: dict[str, Any] = {
    "version": 1,
    "name": "Small Hound 1B",
    "organisation": "Example Lab",
    "link": "https://example.org/small-hound",
    "params": 1_000_000_000,
    "licence": "Apache-2.0",
    "submitted": "2026-11-27",
    "package": "0.1.0",
    "judge": "answer-match",
    "task_versions": {"msvd_qa": 1},
    "judge_prompt_hashes": {"msvd_qa": None},
    "files": {"run.json": "0" * 64},
}


def test_a_record_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "submission.json", RECORD)
    record = read_submission(tmp_path)
    assert record is not None
    assert (record.name, record.params, record.withdrawn) == ("Small Hound 1B", 10**9, None)


def test_a_run_of_ones_own_is_no_submission(tmp_path: Path) -> None:
    assert read_submission(tmp_path) is None


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("link", "javascript:alert(1)", "https"),
        ("link", "http://example.org", "https"),
        ("link", "https://alice:secret@example.org/", "no user name or password"),
        ("link", "https://example.org/ onmouseover=alert(1)", "https"),
        ("link", "https://example.org/" + "a" * 300, "at most 300"),
        ("name", "<script>alert(1)</script>", "< or >"),
        ("name", "", "1 to 100"),
        ("name", "a" * 101, "1 to 100"),
        ("name", "Hound\n| 99 |", "line ends"),
        ("name", "Hound \u202e dnuoH", "control characters"),
        ("organisation", "Lab \x1b[31m", "control characters"),
        ("params", True, "number"),
        ("params", 0, "greater than or equal to 1"),
        ("submitted", "27.11.2026", "must be a day"),
        ("submitted", "2026-02-30", "day"),
        ("version", 2, "1"),
        ("files", {"run.json": "../../etc/passwd"}, "pattern"),
        ("rank", 1, "Extra inputs"),
    ],
)
def test_a_record_that_says_the_impossible(
    tmp_path: Path, key: str, value: object, cause: str
) -> None:
    write_json(tmp_path / "submission.json", RECORD | {key: value})
    with pytest.raises(UserError, match=cause) as caught:
        read_submission(tmp_path)
    assert key in str(caught.value)


def test_names_of_any_script_are_taken(tmp_path: Path) -> None:
    write_json(tmp_path / "submission.json", RECORD | {"name": "視頻獵犬 7B – Ünïcode"})
    record = read_submission(tmp_path)
    assert record is not None
    assert record.name == "視頻獵犬 7B – Ünïcode"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with six questions about three clips; no clips, which rules do not need."""
    folder = tmp_path_factory.mktemp("release")
    rows = []
    for stem in COLOURS:
        caption = f"The whole picture is {NAMES[stem]} from beginning to end."
        red = "yes" if stem == "a" else "no"
        rows.append(task_row(f"{stem}_0", f"msvd/{stem}", "What colour?", NAMES[stem], caption))
        rows.append(task_row(f"{stem}_1", f"msvd/{stem}", "Is it red?", red, caption))
    write_jsonl(folder / "video_instruction" / "test" / "msvd.qa.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on them, of answers from a file."""
    folder = tmp_path_factory.mktemp("run")
    rows = [{"id": name, "prediction": text} for name, text in ANSWERS.items()]
    write_jsonl(folder / "answers.jsonl", rows)
    judge_predictions(
        folder / "answers.jsonl", ["msvd_qa"], "answer-match", folder / "out", data_dir=data
    )
    return folder / "out"


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_submission(run, INFO, tmp_path_factory.mktemp("packed") / "it", day=DAY)


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    """A submission to spoil."""
    return Path(shutil.copytree(packed, tmp_path / "submission"))


def spoil(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change each row, or the contents, of a file of a submission."""
    file = folder / name
    if file.suffix == ".jsonl":
        rows = [row for _, row in read_jsonl(file)]
        write_jsonl(file, [row for row in rows if change(row) is not False])
    else:
        contents = read_json(file)
        change(contents)
        write_json(file, contents)


def hash_again(folder: Path) -> None:
    """What a forger does last: the hashes of submission.json are those of the files again."""
    hashes = {name: sha256_file(folder / name) for name in FILES}
    spoil(folder, "submission.json", lambda record: record.update(files=hashes))


def problems(folder: Path, data: Path | None = None) -> str:
    return "\n".join(check_submission(folder, data_dir=data)["problems"])


def test_a_run_is_packed_whole_and_scored_to_the_same_figures(
    run: Path, packed: Path, data: Path
) -> None:
    assert sorted(path.name for path in packed.iterdir()) == sorted([*FILES, "submission.json"])
    report = check_submission(packed, data_dir=data)
    assert report["problems"] == []
    assert report["tasks"]["msvd_qa"]["verdicts"] == "given anew"
    figures = read_json(packed / "results.json")["tasks"]["msvd_qa"]
    assert figures["accuracy"]["value"] == pytest.approx(4 / 6)
    assert figures == read_json(run / "results.json")["tasks"]["msvd_qa"]
    record = read_submission(packed)
    assert record is not None
    assert (record.name, record.judge, record.submitted) == ("Small Hound", "answer-match", DAY)


def test_without_the_data_the_check_says_what_it_could_not_see(packed: Path) -> None:
    report = check_submission(packed)
    assert report["problems"] == []
    assert report["tasks"]["msvd_qa"]["verdicts"] == "as submitted"
    assert ["--data-dir" in remark for remark in report["remarks"]] == [True, True]


def test_nothing_of_the_machine_is_packed(run: Path, packed: Path) -> None:
    assert str(run.parent) in (run / "run.json").read_text("utf-8")
    for path in packed.iterdir():
        assert str(run.parent) not in path.read_text("utf-8"), path.name
    assert read_json(packed / "run.json")["model"]["spec"] == "predictions:answers.jsonl"


def test_paths_addresses_and_keys_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_API_KEY", "correct-horse-battery")
    record = {
        "model": {
            "spec": "openai:/home/alice/models/llama",
            "name": "/home/alice/models/llama",
            "endpoint": "http://alice:pw@10.0.0.7:8000/v1?key=1",
            "link": "https://example.org/model",
        },
        "judge": "openai:org/judge",
        "tasks": {"t": {"judge": {"name": "openai:org/judge", "endpoint": "http://gpu7/v1"}}},
        "data": {"data_dir": "/home/alice/release", "limit": 3},
        "host": "gpu7",
        "command": [
            "/home/alice/.venv/bin/sharegptvideo", "eval", "run", "--model", "hf:org/model",
            "--media", "/mnt/clips of alice", "--out=runs/x", "--base-url", "http://gpu7/v1",
            "--api-key", "plainword", "--note", "correct-horse-battery", "--limit", "3",
        ],
    }  # fmt: skip
    public = public_run(record)
    text = json.dumps(public)
    for word in ("alice", "gpu7", "10.0.0.7", "pw@", "plainword", "battery", "runs/x", "mnt"):
        assert word not in text, word
    assert public["model"]["spec"] == "openai:llama"
    assert public["model"]["link"] == "https://example.org/model"
    assert public["judge"] == "openai:org/judge"
    assert public["data"] == {"limit": 3}
    assert public["command"][:5] == ["sharegptvideo", "eval", "run", "--model", "hf:org/model"]
    assert public["command"][-2:] == ["--limit", "3"]
    assert public_run(public) == public


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("C:\\Users\\bob\\a.mp4 is broken", "a.mp4 is broken"),
        ("no clip ~/media/a.mp4", "no clip a.mp4"),
        ("401: Bearer abc.def", "401: [removed]"),
        ("key sk-abcdefghijklmnopqrstuvwx", "key [removed]"),
        ("hf_abcdefghijklmnopqrstuvwx", "[removed]"),
        ("missing clip test/msvd/a", "missing clip test/msvd/a"),
        ("yes/no", "yes/no"),
    ],
)
def test_texts_are_cleaned(text: str, clean: str) -> None:
    assert public_text(text) == clean


# What a run must be.


def test_a_part_is_not_packed(data: Path, run: Path, tmp_path: Path) -> None:
    judge_predictions(
        run / "predictions.jsonl", ["msvd_qa"], "exact", tmp_path / "r", data_dir=data, limit=2
    )
    with pytest.raises(UserError, match=r"first 2 questions.*without --limit"):
        make_submission(tmp_path / "r", INFO, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_finished_is_not_packed(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "r"))
    (copy / "results.json").unlink()
    with pytest.raises(UserError, match=r"no results.json yet; run its command again"):
        make_submission(copy, INFO, tmp_path / "out")


def test_every_reason_is_said_at_once(run: Path, tmp_path: Path) -> None:
    """An altered figure, an answer without a verdict, and a judge that the board does not take."""
    copy = Path(shutil.copytree(run, tmp_path / "r"))
    spoil(copy, "results.json", _accuracy(0.9))
    spoil(copy, "judgements.jsonl", lambda row: row["id"] != "a_0")
    spoil(copy, "run.json", lambda run: run["tasks"]["msvd_qa"]["judge"].update(version=1))
    with pytest.raises(UserError) as caught:
        make_submission(copy, INFO, tmp_path / "out")
    assert caught.value.exit_code == 1
    for part in (
        "msvd_qa.accuracy.value: 0.9, scored anew 0.6",
        "1 id (a_0) without a verdict",
        "judged by answer-match version 1; the board takes answer-match version 2",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_judge_whose_name_no_page_should_show(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "r"))
    spoil(copy, "run.json", lambda run: run.update(judge="<b>" * 50))
    with pytest.raises(UserError, match="judge: must have 1 to 100 characters"):
        make_submission(copy, INFO, tmp_path / "out")


def test_a_folder_that_holds_something_is_left(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty; give another --out"):
        make_submission(run, INFO, tmp_path)


def test_a_question_that_was_tried_again_is_packed_once(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "r"))
    rows = [row for _, row in read_jsonl(copy / "predictions.jsonl")]
    failed = rows[0] | {"status": "failed", "prediction": None, "error": "/home/alice/a: broken"}
    write_jsonl(copy / "predictions.jsonl", [failed, *rows])
    made = make_submission(copy, INFO, tmp_path / "out")
    assert len([*read_jsonl(made / "predictions.jsonl")]) == len(rows)
    assert check_submission(made)["problems"] == []


# Forgers. Each test but the first hashes the files again, so that only the contents can show it.


def _accuracy(value: float) -> Callable[[dict[str, Any]], object]:
    return lambda results: results["tasks"]["msvd_qa"]["accuracy"].update(value=value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_altered_is_named(folder: Path, name: str) -> None:
    with (folder / name).open("a") as file:
        file.write("\n")
    assert problems(folder) == (
        f"{name}: was altered after it was packed (its SHA-256 is not that in submission.json)"
    )


def test_a_better_figure(folder: Path) -> None:
    spoil(folder, "results.json", _accuracy(0.95))
    hash_again(folder)
    assert problems(folder) == (
        "results.json: tasks.msvd_qa.accuracy.value: 0.95, scored anew 0.666667"
    )


def test_a_narrower_interval(folder: Path) -> None:
    spoil(folder, "results.json", lambda r: r["tasks"]["msvd_qa"]["score"].update(ci95=[3.0, 4.0]))
    hash_again(folder)
    assert "tasks.msvd_qa.score.ci95[0]: 3, scored anew" in problems(folder)


def test_a_figure_of_ones_own(folder: Path) -> None:
    spoil(folder, "results.json", lambda r: r["tasks"]["msvd_qa"].update(rank=1))
    hash_again(folder)
    assert problems(folder) == "results.json: tasks.msvd_qa.rank: 1, scored anew null"


def test_a_better_verdict(folder: Path, data: Path) -> None:
    """With the figures to match: without the data it would pass, and rules see it with them."""
    _turn(folder, "b_0")
    assert problems(folder) == ""
    assert problems(folder, data) == (
        "msvd_qa: 1 id (b_0) with another verdict than answer-match gives"
    )


def _turn(folder: Path, name: str) -> None:
    """Make a wrong answer right in verdicts and figures, as the scoring itself would."""

    def right(row: dict[str, Any]) -> None:
        if row["id"] == name:
            row.update(correct=True, score=5.0)

    spoil(folder, "judgements.jsonl", right)
    _score_again(folder)


def _score_again(folder: Path) -> None:
    from sharegptvideo.eval.submission_check import scored_anew

    rows = [
        {f"{row['task']}/{row['id']}": row for _, row in read_jsonl(folder / name)}
        for name in ("predictions.jsonl", "judgements.jsonl")
    ]
    figures = scored_anew(read_json(folder / "run.json"), *rows)
    spoil(folder, "results.json", lambda results: results.update(tasks=figures))
    hash_again(folder)


def test_a_better_answer_with_the_old_verdict(folder: Path, data: Path) -> None:
    def better(row: dict[str, Any]) -> None:
        if row["id"] == "a_0":
            row["prediction"] = "The whole picture is red."

    spoil(folder, "predictions.jsonl", better)
    hash_again(folder)
    assert problems(folder) == ""
    assert (
        "msvd_qa: 1 id (a_0) whose verdict is on other texts (item_hash): the answer was changed"
        " after it was judged, or the data are others"
    ) in problems(folder, data)


def test_wrong_answers_that_were_dropped(folder: Path, data: Path) -> None:
    for name in ("predictions.jsonl", "judgements.jsonl"):
        spoil(folder, name, lambda row: row["id"] not in {"b_0", "c_1"})
    _score_again(folder)
    assert read_json(folder / "results.json")["tasks"]["msvd_qa"]["accuracy"]["value"] == 1
    assert problems(folder, data) == (
        "msvd_qa: 2 ids (b_0, c_1) without an answer: answered 4, in the data 6"
    )
    settings = _settings(questions=check_submission(folder)["tasks"]["msvd_qa"]["questions"])
    assert check_submission(folder, settings=settings)["problems"] == []


def _settings(**msvd: Any) -> BoardSettings:
    """Those that come along, with one recorded set of questions."""
    contents = board_settings().model_dump()
    contents["tasks"]["msvd_qa"] = {name: [value] for name, value in msvd.items()}
    return BoardSettings.model_validate(contents)


def test_missing_and_exchanged_questions_show_without_the_data(folder: Path) -> None:
    whole = check_submission(folder)["tasks"]["msvd_qa"]["questions"]
    settings = _settings(questions=whole)
    report = check_submission(folder, settings=settings)
    assert report["problems"] == []
    assert len(report["remarks"]) == 1, "the set is known to be whole"
    spoil(folder, "predictions.jsonl", lambda row: row.update(question="Easy?"))
    hash_again(folder)
    (problem,) = check_submission(folder, settings=settings)["problems"]
    assert "its questions (ids, videos, texts or types) are not those of the task" in problem
    for name in ("predictions.jsonl", "judgements.jsonl"):
        spoil(folder, name, lambda row: row["id"] not in {"b_0", "c_1"})
    _score_again(folder)
    (problem,) = check_submission(folder, settings=settings)["problems"]
    assert problem == "msvd_qa: 4 questions, of 6: answers are missing or added"


def test_answers_without_verdicts_and_verdicts_without_answers(folder: Path) -> None:
    spoil(folder, "judgements.jsonl", lambda row: row["id"] != "b_0")
    hash_again(folder)
    assert "1 id (b_0) without a verdict in judgements.jsonl" in problems(folder)
    spoil(folder, "predictions.jsonl", lambda row: row["id"] != "a_0")
    hash_again(folder)
    assert "1 id (a_0) judged, but never answered" in problems(folder)


def test_an_id_twice(folder: Path) -> None:
    file = folder / "predictions.jsonl"
    first = file.read_text("utf-8").splitlines()[0]
    file.write_text(file.read_text("utf-8") + first + "\n")
    hash_again(folder)
    assert problems(folder) == "predictions.jsonl: 1 id (a_0) more than once; keep one row each"


def test_another_model_in_the_record(folder: Path) -> None:
    spoil(folder, "run.json", lambda run: run["model"].update(spec="hf:better"))
    hash_again(folder)
    assert problems(folder) == (
        "results.json.model: predictions:answers.jsonl, scored anew hf:better"
    )


def test_another_judge_in_the_record(folder: Path) -> None:
    def exact(run: dict[str, Any]) -> None:
        run["judge"] = "exact"
        run["tasks"]["msvd_qa"]["judge"] = open_judge("exact").describe()

    spoil(folder, "run.json", exact)
    hash_again(folder)
    said = problems(folder)
    assert "submission.json: judge: answer-match, but run.json has exact" in said
    assert "6 ids (a_0, a_1, b_0, b_1, c_0 and 1 more) judged by another judge" in said


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"version": 7}, "its version is 7; the board takes 1"),
        ({"split": "train"}, "its split is train; the board takes test"),
        ({"task_hash": "0" * 16}, "its task_hash is 0000000000000000; the board takes"),
        ({"protocol": "official"}, "its protocol is official; the board takes caption-grounded"),
        ({"task_hash": None}, "its task_hash is null"),
        ({"limit": 6}, "the first 6 questions (--limit); the board takes whole tasks"),
        ({"judge": {"name": "mine", "kind": "mine"}}, "judged by mine (kind mine)"),
        ({"judge": {"name": "exact", "kind": "rules", "version": 1}}, "judged by another judge"),
        (
            {"judge": {"name": "openai:x", "kind": "openai", "protocol": "caption-grounded",
                       "prompt_version": 2, "prompt_hash": "0" * 16}},
            "its judge's prompt_hash is 0000000000000000; judges of this package have",
        ),
    ],
)  # fmt: skip
def test_what_the_board_does_not_take(folder: Path, change: dict[str, Any], cause: str) -> None:
    spoil(folder, "run.json", lambda run: run["tasks"]["msvd_qa"].update(change))
    hash_again(folder)
    assert cause in problems(folder)


def test_a_task_that_the_board_does_not_have(folder: Path) -> None:
    def rename(contents: dict[str, Any]) -> None:
        for key in ("tasks", "task_versions", "judge_prompt_hashes"):
            if key in contents:
                contents[key] = {"../../etc/passwd": contents[key].pop("msvd_qa")}
        if "task" in contents:
            contents["task"] = "../../etc/passwd"

    for name in (*FILES, "submission.json"):
        spoil(folder, name, rename)
    hash_again(folder)
    assert "../../etc/passwd: the board does not take this task" in problems(folder)


def test_a_path_in_the_record_is_sent_back(folder: Path) -> None:
    spoil(folder, "run.json", lambda run: run["model"].update(folder="/home/alice/model"))
    hash_again(folder)
    assert "run.json: model holds a path, an address or a key" in problems(folder)


def test_scores_off_the_scale(folder: Path) -> None:
    spoil(folder, "judgements.jsonl", lambda row: row.update(score=500.0))
    _score_again(folder)
    assert "with a score that is not from 1 to 5" in problems(folder)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"{", "predictions.jsonl:1: not JSON"),
        (b"[1]", "a list, not an object"),
        (b'{"id": "a_0", "task": "msvd_qa"}', "video: Field required"),
        (b'{"id": "a_0", "id": "a_1"}', "stands twice"),
        (b'{"id": NaN}', "NaN is no number"),
        (b"\xff\xfe{}", "UTF-16"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"x": "' + b"a" * (2 << 20) + b'"}', "over 1"),
        (b"\x1f\x8b\x08\x00", "predictions.jsonl: packed"),
        (b"", "predictions.jsonl has no answer to it"),
    ],
)
def test_broken_and_huge_rows(folder: Path, content: bytes, cause: str) -> None:
    (folder / "predictions.jsonl").write_bytes(content)
    hash_again(folder)
    assert cause in problems(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"usage": {"prompt_tokens": "many"}},
        {"usage": 3},
        {"video": ""},
        {"frame_indices": [1.5]},
        {"prediction": 5},
    ],
)
def test_rows_that_cannot_be_scored(folder: Path, change: dict[str, Any]) -> None:
    spoil(folder, "predictions.jsonl", lambda row: row.update(change))
    hash_again(folder)
    assert problems(folder) != ""


@pytest.mark.parametrize("name", [*FILES, "submission.json"])
def test_links_and_missing_files(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    assert f"{name}: missing" in problems(folder)
    (folder / name).symlink_to(tmp_path / name)
    assert problems(folder) == f"{name}: a link; put the file itself there"


def test_clips_and_other_files_are_sent_back(folder: Path) -> None:
    (folder / "clip\u202e.mp4").write_bytes(b"")
    assert "not of a submission, which never holds clips" in problems(folder)


def test_a_folder_of_other_things_is_refused_in_a_line(run: Path, tmp_path: Path) -> None:
    (problem,) = check_submission(run)["problems"]
    assert problem.startswith("submission.json: missing: no submission;")
    for name in ("one", "two"):
        (tmp_path / "here" / name).mkdir(parents=True)
    result = CliRunner().invoke(app, ["submission", "check", str(tmp_path / "here")])
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path / 'here'}: no submission in it (submission.json)\n"


def test_hashes_of_files_elsewhere(folder: Path) -> None:
    spoil(folder, "submission.json", lambda r: r["files"].update({"../run.json": "0" * 64}))
    assert "files: has to name run.json" in problems(folder)


# A served judge: its replies are read anew.


@pytest.fixture
def served(run: Path, data: Path, chat_server: Any, tmp_path: Path) -> Path:
    chat_server.models = ["judge"]
    chat_server.answer = lambda _: '{"explanation": "It differs.", "score": 2}'
    judge_predictions(
        run / "predictions.jsonl", ["msvd_qa"], "openai:judge", tmp_path / "served",
        data_dir=data, base_url=chat_server.url,
    )  # fmt: skip
    return make_submission(tmp_path / "served", INFO, tmp_path / "submission")


def test_a_verdict_that_its_reply_does_not_say(served: Path) -> None:
    report = check_submission(served)
    assert report["problems"] == []
    assert report["tasks"]["msvd_qa"]["verdicts"] == "read anew"
    assert "127.0.0.1" not in (served / "run.json").read_text("utf-8")
    _turn(served, "b_0")
    assert problems(served) == (
        "msvd_qa: 1 id (b_0) whose verdict is not what the judge's reply says"
    )


@pytest.mark.parametrize(
    ("key", "value"), [("name", "openai:better"), ("temperature", 1), ("jury", "large")]
)
def test_a_served_judge_is_asked_as_judges_of_this_package(
    served: Path, key: str, value: object
) -> None:
    spoil(served, "run.json", lambda run: run["tasks"]["msvd_qa"]["judge"].update({key: value}))
    hash_again(served)
    assert f"msvd_qa: its judge's {key} is {value}; judges of this package have" in problems(served)


def test_a_call_that_failed_is_to_be_asked_again(served: Path, tmp_path: Path) -> None:
    def failed(row: dict[str, Any]) -> None:
        if row["id"] == "b_0":
            row.update(status="unscored", correct=None, score=None, reply=None, reason="timeout")

    run = tmp_path / "served"
    spoil(run, "judgements.jsonl", failed)
    with pytest.raises(UserError, match=r"1 id \(b_0\) not judged, as a call failed: finish"):
        make_submission(run, INFO, tmp_path / "again")
    spoil(served, "judgements.jsonl", failed)
    _score_again(served)
    assert "not judged, as a call failed" in problems(served)


# Pairs of yes and no, and options.


@pytest.fixture
def formed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A submission of a task that has its own rules, and the task's files; answers all alike."""
    task, answer = request.param
    files = tmp_path / "files"
    getattr(benchmark_files, task)(files)
    rows = [{"id": q.id, "prediction": answer} for q in load_questions(load_task(task), files)]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    judge_predictions(tmp_path / "answers.jsonl", [task], None, tmp_path / "run", data_dir=files)
    return make_submission(tmp_path / "run", INFO, tmp_path / "submission"), files


@pytest.mark.parametrize(
    "formed", [("videohallucer", "Yes."), ("nextqa", "A"), ("tempcompass", "B")], indirect=True
)
def test_tasks_with_rules_of_their_own(formed: tuple[Path, Path]) -> None:
    folder, files = formed
    assert check_submission(folder)["problems"] == []
    report = check_submission(folder, data_dir=files)
    assert report["problems"] == []
    assert [about["verdicts"] for about in report["tasks"].values()] == ["given anew"]
    results = read_json(folder.parent / "run" / "results.json")["tasks"]
    assert read_json(folder / "results.json")["tasks"] == results


@pytest.mark.parametrize("formed", [("videohallucer", "Yes.")], indirect=True)
def test_figures_that_take_the_right_answers(formed: tuple[Path, Path]) -> None:
    """They are not known without the data; a headline that says less is seen at once."""
    folder, files = formed

    def balanced(results: dict[str, Any]) -> None:
        results["tasks"]["videohallucer"]["yes_rate"]["value"] = 0.5

    spoil(folder, "results.json", balanced)
    hash_again(folder)
    assert problems(folder) == ""
    assert problems(folder, files) == (
        "results.json: tasks.videohallucer.yes_rate.value: 0.5, scored anew 1"
    )
    spoil(folder, "results.json", lambda r: r["tasks"]["videohallucer"].pop("headline"))
    hash_again(folder)
    assert "headline: accuracy, scored anew pair_accuracy" in problems(folder)


def test_claims_and_answers_that_are_judged_together(chat_server: Any, tmp_path: Path) -> None:
    """Of the second pair one answer is missing, so the other has no verdict, and needs none."""
    files = tmp_path / "files"
    clips = [{"video_id": f"c{at}", "video_name": f"c{at}.mp4", "detailed_caption": text}
             for at, text in enumerate(["A dog runs.", "A cat sleeps."])]  # fmt: skip
    write_jsonl(files / "VDC_1k.jsonl", clips)
    pairs = [
        {"Q1": "What is he doing?", "Q2": "Which work?", "A": "He cooks.", "video_name": "a"},
        {"Q1": "Who runs?", "Q2": "What is running?", "A": "A dog.", "video_name": "b"},
    ]
    write_json(files / "consistency_qa.json", pairs)
    chat_server.models = ["m"]
    counted = {"claims": [{"claim": "A dog.", "supported": "yes"}],
               "reference_claims": [{"claim": "A dog.", "covered": "yes"},
                                    {"claim": "It runs.", "covered": "no"}]}  # fmt: skip
    chat_server.answer = lambda body: json.dumps(
        counted if "reference_claims" in str(body) else {"explanation": "", "score": 4}
    )
    tasks = ["video_detailed_caption", "video_chatgpt_consistency"]
    ids = [q.id for task in tasks for q in load_questions(load_task(task), files)]
    rows = [{"id": name, "prediction": "A dog."} for name in ids[:-1]]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    judge_predictions(
        tmp_path / "answers.jsonl", tasks, "openai:m", tmp_path / "run", data_dir=files,
        base_url=chat_server.url,
    )  # fmt: skip
    folder = make_submission(tmp_path / "run", INFO, tmp_path / "submission")
    report = check_submission(folder, data_dir=files)
    assert report["problems"] == []
    assert [about["verdicts"] for about in report["tasks"].values()] == ["read anew"] * 2

    def more(row: dict[str, Any]) -> None:
        if row["id"] == "c1.mp4":
            row["claims"]["covered"], row["score"] = 2, 1.0

    spoil(folder, "judgements.jsonl", more)
    _score_again(folder)
    assert problems(folder) == (
        "video_detailed_caption: 1 id (c1.mp4) whose verdict is not what the judge's reply says"
    )


# The folder of submissions.


@pytest.fixture
def history(packed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The folder as it was, and as a pull request has it: with a submission of its own."""
    name = submission_slug(INFO.name, DAY)
    for side in ("base", "head"):
        shutil.copytree(packed, tmp_path / side / name)
    return tmp_path / "base", tmp_path / "head"


def test_what_was_submitted_stays(history: tuple[Path, Path]) -> None:
    base, head = history
    (name,) = (path.name for path in base.iterdir())
    assert changed_submissions(head, base) == ([], [])
    spoil(head / name, "results.json", _accuracy(0.95))
    hash_again(head / name)
    (problem,) = changed_submissions(head, base)[0]
    assert problem == (
        f"{name}: results.json, submission.json altered; send a new submission instead"
    )
    shutil.rmtree(head / name)
    (problem,) = changed_submissions(head, base)[0]
    assert "removed; what was submitted stays" in problem
    (head / name).symlink_to(base / name)
    assert "removed" in changed_submissions(head, base)[0][0]


def test_a_submission_may_be_withdrawn_once_with_a_reason(history: tuple[Path, Path]) -> None:
    base, head = history
    (name,) = (path.name for path in base.iterdir())
    mark = {"date": DAY, "reason": "It was trained on the test set."}
    spoil(head / name, "submission.json", lambda record: record.update(withdrawn=mark))
    assert changed_submissions(head, base) == ([], [])
    record = read_submission(head / name)
    assert record is not None
    assert record.withdrawn is not None
    assert changed_submissions(base, head)[0], "a withdrawal is not taken back"
    spoil(head / name, "submission.json", lambda record: record.update(withdrawn={"date": DAY}))
    assert changed_submissions(head, base)[0], "a reason is missing"


def test_new_submissions_are_named_by_model_and_day_and_are_no_copies(
    history: tuple[Path, Path],
) -> None:
    base, head = history
    (name,) = (path.name for path in base.iterdir())
    shutil.copytree(base / name, head / "best-model")
    found, new = changed_submissions(head, base)
    assert [path.name for path in new] == ["best-model"]
    assert found == [
        f"best-model: the same answers and verdicts as {name}",
        f"best-model: has to be named {name}, by its model and day",
    ]


@pytest.mark.parametrize("name", ["視頻獵犬", "../../etc", "a" * 300, "Ünïcode/7B", "..."])
def test_a_folder_is_named_in_plain_letters(name: str) -> None:
    slug = submission_slug(name, DAY)
    assert slug.endswith(f"-{DAY}")
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 12 <= len(slug) <= 80


# The workflow: its steps on a branch as it is and as a pull request would make it.


@pytest.fixture
def checked(tmp_path: Path, history: tuple[Path, Path]) -> Callable[[], tuple[int, str]]:
    """Put the two folders where the workflow has them; runs its check, and gives what it said."""
    text = (ROOT / ".github" / "workflows" / "submission.yml").read_text("utf-8")
    steps = yaml.safe_load(text)["jobs"]["check"]["steps"]
    for step in steps:
        assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"]), step
    for side in history:
        (tmp_path / "at" / side.name / "eval" / "leaderboard").mkdir(parents=True)
        target = tmp_path / "at" / side.name / "eval" / "leaderboard" / "submissions"
        target.symlink_to(side)
    command = tmp_path / "bin" / "sharegptvideo"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sharegptvideo "$@"\n')
    command.chmod(0o755)
    paths = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    (run,) = (step["run"] for step in steps if step.get("name") == "Check")

    def check() -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", run],
            cwd=tmp_path / "at",
            env={**os.environ, **paths},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return check


def test_the_workflow_takes_a_good_submission_and_refuses_an_altered_one(
    checked: Callable[[], tuple[int, str]], history: tuple[Path, Path], served: Path
) -> None:
    _, head = history
    record = read_submission(served)
    assert record is not None
    new = head / submission_slug(record.name, record.submitted)
    if new.exists():  # made on the day of the other one
        new = new.with_name(f"{new.name}-2")
    shutil.copytree(served, new)
    code, said = checked()
    assert code == 0, said
    assert f"{new.name}: Small Hound: msvd_qa (6 questions, verdicts read anew)" in said
    _turn(new, "b_0")
    code, said = checked()
    assert code == 1
    assert "whose verdict is not what the judge's reply says" in said


def test_the_workflow_installs_what_is_there() -> None:
    text = (ROOT / ".github" / "workflows" / "submission.yml").read_text("utf-8")
    assert "pull_request_target" not in text, "it would run what others send with our rights"
    (install,) = re.findall(r"run: (python -m pip install .*)", text)
    assert "--constraint base/constraints.txt ./base scipy" in install
    assert "scipy==" in (ROOT / "constraints.txt").read_text("utf-8")


# What comes along.


def test_shipped_submissions_pass(tmp_path: Path) -> None:
    folders = submitted_runs()
    assert len(folders) >= 2
    for folder in folders:
        report = check_submission(folder)
        assert report["problems"] == []
        assert [remark for remark in report["remarks"] if "all of the task's" in remark] == []
    parent = shipped("eval/leaderboard/submissions")
    problems, new = changed_submissions(parent, tmp_path)
    assert problems == []
    assert new == folders


def test_the_boards_settings_name_what_is_here() -> None:
    settings = board_settings()
    assert set(settings.tasks) <= set(task_names())
    for name, versions in settings.judges.rules.items():
        protocol = "claims" if name == "claim-match" else "official"
        assert open_judge(name, protocol=protocol).describe()["version"] in versions
    for name, versions in settings.judges.served.items():
        assert load_protocol(name).version in versions


# The commands.


def test_the_commands(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission"
    words = ["submission", "make", str(run), "--name", "Small Hound", "--organisation", "Lab",
             "--link", "https://example.org", "--params", "1.5B", "--licence", "closed",
             "--contamination", "all 3 test videos", "--out", str(out)]  # fmt: skip
    made = CliRunner().invoke(app, words)
    assert made.exit_code == 0, made.output
    record = read_submission(out)
    assert record is not None
    assert (record.params, record.contamination) == (1_500_000_000, "all 3 test videos")
    checked = CliRunner().invoke(
        app, ["submission", "check", str(out), "--data-dir", str(data), "--json"]
    )
    assert checked.exit_code == 0, checked.output
    (report,) = json.loads(checked.stdout)["submissions"]
    assert report["tasks"]["msvd_qa"]["n"] == 6
    spoil(out, "results.json", _accuracy(0.9))
    refused = CliRunner().invoke(app, ["submission", "check", str(out)])
    assert refused.exit_code == 1
    assert "refused: results.json: was altered" in refused.stdout
    assert "accuracy.value: 0.9, scored anew 0.666667" in refused.stdout


@pytest.mark.parametrize("text", ["7 billions", "-1", "0", "1e99", "B", "1.2.3B"])
def test_a_number_of_parameters_that_is_none(run: Path, text: str) -> None:
    words = ["submission", "make", str(run), "--name", "x", "--organisation", "x", "--link",
             "https://example.org", "--licence", "x", f"--params={text}"]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "must be a number as 7B" in result.stderr
