"""Tasks of one's own: parts, a folder of task files, questions and wordings beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_runs, judge_predictions
from sharegptvideo.eval.tasks import list_tasks, load_questions, load_task, parse_task, task_names

TASK = """
name: {name}
include: [{include}]
title: Mine
version: 3
config: msvd_qa
citation: none
{more}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with the task `kitchen`, its questions, and a part `short`."""
    folder = tmp_path / "tasks"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "short.yaml").write_text(
        'include: [grounded]\nprompt: "{question} One word."\nmax_new_tokens: 8\n'
    )
    more = "annotations:\n  reader: plain\n  questions: [kitchen.jsonl]\nmax_new_tokens: 9"
    (folder / "kitchen.yaml").write_text(TASK.format(name="kitchen", include="short", more=more))
    rows = [
        {"id": n, "video": f"k{n}", "question": f"What is {n}?", "answer": str(n)} for n in (1, 2)
    ]
    write_jsonl(folder / "kitchen.jsonl", rows)
    return folder


def test_parts_are_taken_over_and_own_keys_win(own: Path) -> None:
    task = load_task("kitchen", own)
    assert task.render("Who?") == "Who? One word."  # of `short`
    assert (task.protocol, task.frames) == ("caption-grounded", 8)  # of `grounded` below it
    assert task.max_new_tokens == 9  # its own


def test_of_two_parts_the_later_wins(own: Path) -> None:
    text = TASK.format(name="x", include="short, official", more="")
    task = parse_task(text, "x", own)
    assert (task.protocol, task.max_new_tokens) == ("official", 1024)


@pytest.mark.parametrize(
    ("include", "part", "message"),
    [
        ("shrot", "", "unknown part 'shrot'; did you mean short"),
        ("loop", "include: [loop]", "part loop: includes itself .loop > loop."),
        ("loop", "include: [back]", "includes itself .loop > back > loop."),
        ("loop", "- a", "part loop: needs one key"),
        ("loop", "fames: 8", "fames: Extra inputs"),
        ("loop", "include: short", "include is a list of names"),
    ],
)
def test_parts_that_cannot_be_taken_over(own: Path, include: str, part: str, message: str) -> None:
    if part:
        (own / "parts" / "loop.yaml").write_text(part + "\n")
        (own / "parts" / "back.yaml").write_text("include: [loop]\n")
    text = TASK.format(name="x", include=f"grounded, {include}", more="")
    with pytest.raises(UserError, match=message):
        parse_task(text, "x", own)


def test_questions_lie_beside_the_task_or_in_the_data_folder(own: Path, tmp_path: Path) -> None:
    task = load_task("kitchen", own)
    found = load_questions(task)
    assert [(q.id, q.video, q.answer) for q in found] == [("1", "k1", "1"), ("2", "k2", "2")]
    (own / "kitchen.jsonl").rename(tmp_path / "kitchen.jsonl")
    assert load_questions(load_task("kitchen", own), tmp_path) == found


def test_questions_that_are_nowhere_are_not_those_of_another_task(
    own: Path, tmp_path: Path, shared_data: Path
) -> None:
    """The release has rows of the task's config: they are not what the task asks."""
    (own / "kitchen.jsonl").unlink()
    for folder in (None, tmp_path, shared_data / "release"):
        with pytest.raises(UserError, match=r"task kitchen: kitchen\.jsonl is neither beside"):
            load_questions(load_task("kitchen", own), folder)
    with pytest.raises(UserError, match=r"task msvd_qa: .*--data-dir: .*msvd_qa_test_qa\.json"):
        load_questions(load_task("msvd_qa"), tmp_path)


def test_folders_that_cannot_be_used(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        task_names(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no task in it"):
        list_tasks(tmp_path / "empty")
    with pytest.raises(UserError, match="did you mean kitchen"):
        load_task("kitchn", own)
    (own / "msvd_qa.yaml").write_text(TASK.format(name="msvd_qa", include="grounded", more=""))
    with pytest.raises(UserError, match="msvd_qa is the name of a task of this package"):
        task_names(own)


def test_a_task_names_a_test_set(own: Path) -> None:
    text = TASK.format(name="x", include="grounded", more="").replace("msvd_qa", "mvsd_qa")
    with pytest.raises(UserError, match=r"config.*did you mean msvd_qa"):
        parse_task(text, "x", own)


def test_a_wording_of_the_judge_has_to_be_there(own: Path) -> None:
    text = TASK.format(name="x", include="official", more="judge:\n  prompt_file: old.yaml")
    with pytest.raises(UserError, match=r"judge\.prompt_file: .*old\.yaml is not there"):
        parse_task(text, "x", own)
    (own / "old.yaml").write_text("name: official\n")
    task = parse_task(text, "x", own)
    assert task.judge is not None
    assert task.judge.prompt_file == own / "old.yaml"


def test_the_commands_take_a_folder_of_tasks(own: Path, tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["eval", "tasks", "--task-path", str(own)])
    assert "kitchen" in listed.stdout
    shown = CliRunner().invoke(app, ["eval", "tasks", "kitchen", "--task-path", str(own), "--json"])
    assert json.loads(shown.stdout)["prompt"] == "{question} One word."
    answers = tmp_path / "answers.jsonl"
    write_jsonl(answers, [{"id": "1", "prediction": "1"}, {"id": "2", "prediction": "one"}])
    words = ["eval", "judge", "--predictions", str(answers), "--task", "kitchen", "--judge"]
    words += ["exact", "--task-path", str(own), "--out", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tasks"]["kitchen"]["accuracy"]["value"] == 0.5


def test_a_changed_task_is_another_run_and_compares_with_none(own: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    write_jsonl(answers, [{"id": "1", "prediction": "1"}, {"id": "2", "prediction": "one"}])

    def judged(folder: str) -> None:
        judge_predictions(answers, ["kitchen"], "exact", tmp_path / folder, task_path=own)

    judged("run")
    run = read_json(tmp_path / "run" / "run.json")
    assert run["data"]["task_path"] == str(own)
    assert run["tasks"]["kitchen"]["task_hash"] == load_task("kitchen", own).task_hash
    file = own / "kitchen.yaml"
    file.write_text(file.read_text() + "# prose alone\n")
    judged("run")
    file.write_text(file.read_text().replace("[kitchen.jsonl]", "[kitchen.jsonl, more.jsonl]"))
    with pytest.raises(UserError, match=r"another run: .*kitchen\.task_hash \w+ there, \w+ here"):
        judged("run")
    judged("other")
    with pytest.raises(UserError, match=r"kitchen: task file of the hash \w+ in .*run, \w+ in"):
        compare_runs(tmp_path / "run", tmp_path / "other")
    del run["tasks"]["kitchen"]["task_hash"]  # as runs of old are
    write_json(tmp_path / "run" / "run.json", run)
    assert compare_runs(tmp_path / "run", tmp_path / "other")["tasks"]["kitchen"]["n"] == 2
    judged("run")


def test_the_hash_is_of_what_is_asked_not_of_where_it_lies(own: Path, tmp_path: Path) -> None:
    before = load_task("kitchen", own).task_hash
    moved = own.rename(tmp_path / "moved")
    assert load_task("kitchen", moved).task_hash == before
    (moved / "kitchen.jsonl").rename(moved / "other.jsonl")
    file = moved / "kitchen.yaml"
    file.write_text(file.read_text().replace("kitchen.jsonl", "other.jsonl"))
    assert load_task("kitchen", moved).task_hash != before


def test_a_report_finds_the_task_where_the_run_had_it(own: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    write_jsonl(answers, [{"id": "1", "prediction": "1"}, {"id": "2", "prediction": "one"}])
    judge_predictions(answers, ["kitchen"], "exact", tmp_path / "run", task_path=own)
    words = ["eval", "report", str(tmp_path / "run"), "--out", str(tmp_path / "report")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "report" / "index.html").is_file()
    own.rename(tmp_path / "moved")
    lost = CliRunner().invoke(app, words)
    assert lost.exit_code == 2
    assert "say with --task-path where it is now" in lost.stderr
    assert CliRunner().invoke(app, [*words, "--task-path", str(tmp_path / "moved")]).exit_code == 0


@pytest.mark.parametrize("name", ["../rows.jsonl", "/etc/hostname", "a/../../rows.jsonl"])
def test_files_of_a_task_stay_in_its_folder(own: Path, tmp_path: Path, name: str) -> None:
    """A task may be anyone's: what it names is read, and goes to a judge."""
    write_jsonl(tmp_path / "rows.jsonl", [{"id": 1}])
    file = own / "kitchen.yaml"
    text = file.read_text()
    file.write_text(text.replace("kitchen.jsonl", name))
    with pytest.raises(
        UserError, match=r"annotations\.questions: .* leads out of the task's folder"
    ):
        load_task("kitchen", own)
    file.write_text(text + f"judge: {{prompt_file: {name}}}\n")
    with pytest.raises(UserError, match=r"judge\.prompt_file: .* leads out of the task's folder"):
        load_task("kitchen", own)


def test_a_link_does_not_lead_out_of_a_task_s_folder(own: Path, tmp_path: Path) -> None:
    (own / "kitchen.jsonl").rename(tmp_path / "rows.jsonl")
    (own / "kitchen.jsonl").symlink_to(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="is a link out of the task's folder"):
        load_task("kitchen", own)


def test_numbers_of_a_task_are_no_booleans(own: Path) -> None:
    file = own / "kitchen.yaml"
    file.write_text(file.read_text().replace("version: 3", "version: yes"))
    with pytest.raises(UserError, match="version: must be a number"):
        load_task("kitchen", own)
