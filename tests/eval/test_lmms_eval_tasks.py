"""The plug-in's files and documents, and sample logs as predictions; lmms-eval itself: tests/peers.

The log lines here have the fields that lmms-eval 0.7.3 writes.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions, list_tasks, lmms_eval_tasks, load_task
from sharegptvideo.eval.lmms_eval_tasks import (
    FIGURES,
    Settings,
    cannot_be_asked,
    documents,
    folder,
    messages,
    task_questions,
)
from sharegptvideo.models import open_model

TASK = "msvd_qa_official"
QUESTIONS = [
    {"id": 11, "video_id": 1, "question": "what is cut?", "answer": "onion"},
    {"id": 12, "video_id": 1, "question": "who cuts it?", "answer": "man"},
    {"id": 13, "video_id": 2, "question": "what runs?", "answer": "dog"},
    {"id": 14, "video_id": 3, "question": "who sings?", "answer": "woman"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four questions about three videos; the clips of the first and third are there."""
    home = tmp_path / "data"
    write_json(home / "msvd_qa_test_qa.json", QUESTIONS)
    (home / "clips").mkdir()
    for name in ("vid1.mp4", "vid3.gif"):
        (home / "clips" / name).write_bytes(b"never opened here")
    return home


def settings(data: Path, judge: str = "exact") -> Settings:
    return Settings(data_dir=data, media=data / "clips", judge=judge, out=None)


class _Loader(yaml.SafeLoader):
    """Reads `!function NAME` as the name."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def read_yaml(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(file.read_text(), _Loader)
    return found


def test_every_task_is_there_with_its_version_and_length() -> None:
    shared = read_yaml(folder() / "shared.yaml")
    files = {file.stem: read_yaml(file) for file in folder().glob("*.yaml")}
    del files["shared"]
    tasks = [task for task in list_tasks() if task.form == "open"]
    assert sorted(files) == [task.name for task in tasks]
    for task in tasks:
        given = shared | files[task.name]
        assert given["task"] == task.name
        assert given["metadata"] == {"version": task.version}
        assert given["generation_kwargs"]["max_new_tokens"] == task.max_new_tokens
        assert given["generation_kwargs"]["until"] == []  # lmms-eval's own would cut at blank lines
        assert given["process_docs"].endswith(f".lmms_eval_tasks.{task.name}")
        assert callable(getattr(lmms_eval_tasks, task.name))


def test_every_figure_has_its_function() -> None:
    metrics = read_yaml(folder() / "shared.yaml")["metric_list"]
    assert [metric["metric"] for metric in metrics] == list(FIGURES)
    assert sorted(FIGURES)[0] == FIGURES[0]  # first in either order
    for metric in metrics:
        assert metric["aggregation"].endswith(f".lmms_eval_tasks.{metric['metric']}")
        assert callable(getattr(lmms_eval_tasks, metric["metric"]))


def test_the_module_prints_the_folder() -> None:
    command = [sys.executable, "-m", "sharegptvideo.eval.lmms_eval_tasks"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()) == folder()
    assert (folder() / "stand_in.txt").is_file()


def test_documents_are_the_questions_that_can_be_asked(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        docs = documents(TASK, settings(data))
    assert docs["id"] == ["11", "12", "14"]
    task = load_task(TASK)
    assert docs["prompt"] == [task.render(QUESTIONS[at]["question"]) for at in (0, 1, 3)]
    assert [Path(clip).name for clip in docs["clip"]] == ["vid1.mp4", "vid1.mp4", "vid3.gif"]
    assert "1 of 4 questions cannot be asked (such as 13: missing clip vid2)" in caplog.text
    assert messages(docs[2])[0]["content"][0] == {
        "type": "video",
        "url": str(data / "clips" / "vid3.gif"),
    }


def test_a_folder_of_frames_cannot_be_asked(data: Path) -> None:
    (data / "clips" / "vid2").mkdir()
    (data / "clips" / "vid2" / "c01_0001.jpeg").write_bytes(b"never opened here")
    assert documents(TASK, settings(data))["id"] == ["11", "12", "14"]
    cause = cannot_be_asked(task_questions(TASK, settings(data))[2])
    assert cause is not None
    assert "folder of frames" in cause


def test_mistakes_end_lmms_eval_in_one_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception would be tried five times over and then appear as a RetryError."""
    monkeypatch.setenv("SHAREGPTVIDEO_DATA_DIR", str(data / "nowhere"))
    load = getattr(lmms_eval_tasks, TASK)
    with pytest.raises(SystemExit, match=r"^error: .*nowhere: no such data folder"):
        load(None)
    monkeypatch.setenv("SHAREGPTVIDEO_DATA_DIR", str(data))
    monkeypatch.setenv("SHAREGPTVIDEO_JUDGE", "exat")
    with pytest.raises(SystemExit, match="unknown judge 'exat'; did you mean exact"):
        load(None)
    monkeypatch.setenv("SHAREGPTVIDEO_JUDGE", "exact")
    (data / "empty").mkdir()
    monkeypatch.setenv("SHAREGPTVIDEO_MEDIA", str(data / "empty"))
    with pytest.raises(SystemExit, match="missing clip vid1, and so for all 4 questions"):
        load(None)


def log_line(place: int, text: Any, *, named: bool = True, **more: Any) -> dict[str, Any]:
    question = QUESTIONS[place]
    row = {
        "doc_id": place,
        "target": question["answer"],
        "filtered_resps": text,
        "token_counts": [None],
        "doc_hash": "74234e98",
        "input": question["question"],
    }
    if named:
        row["accuracy"] = {"id": str(question["id"]), "task": TASK, "prediction": text}
    return row | more


def log_file(folder: Path, rows: list[dict[str, Any]], task: str = TASK, date: str = "1") -> Path:
    file = folder / f"{date}_samples_{task}.jsonl"
    write_jsonl(file, rows)
    return file


@pytest.mark.parametrize("named", [True, False], ids=["with ids", "--predict_only"])
def test_a_sample_log_is_a_file_of_predictions(tmp_path: Path, data: Path, named: bool) -> None:
    said = ["onion", " dog\n", "dog", "man"]  # lmms-eval strips before it judges
    rows = [log_line(at, text, named=named) for at, text in enumerate(said)]
    file = log_file(tmp_path / "logs", rows)
    results = judge_predictions(file, [TASK], "exact", tmp_path / "run", data_dir=data)
    found = results["tasks"][TASK]
    assert (found["n"], found["n_failed"], found["accuracy"]["value"]) == (4, 0, 0.5)
    assert (tmp_path / "run" / "predictions.jsonl").read_text().count('"prediction": "dog"') == 2


def test_what_a_log_leaves_out_is_failed_and_listed(tmp_path: Path, data: Path) -> None:
    file = log_file(tmp_path / "logs", [log_line(0, "onion"), log_line(3, "woman")])
    results = judge_predictions(file, [TASK], "exact", tmp_path / "run", data_dir=data)
    found = results["tasks"][TASK]
    assert found["missing_predictions"] == ["12", "13"]
    assert (found["n_failed"], found["accuracy"]["value"]) == (2, 0.5)


def test_a_log_without_ids_has_to_fit_the_questions(tmp_path: Path, data: Path) -> None:
    # Written where vid1 was missing: its first line was about the third question.
    rows = [log_line(2, "dog", named=False, doc_id=0)]
    file = log_file(tmp_path / "logs", rows)
    with pytest.raises(UserError, match=r":1: its question \(doc_id 0\) is not that of") as caught:
        judge_predictions(file, [TASK], "exact", tmp_path / "run", data_dir=data)
    assert "without --predict_only" in str(caught.value)
    rows = [log_line(2, "dog", named=False, doc_id=4)]
    with pytest.raises(UserError, match="doc_id 4"):
        judge_predictions(
            log_file(tmp_path / "more", rows), [TASK], "exact", tmp_path / "run", data_dir=data
        )


def test_several_answers_to_a_question_are_refused(tmp_path: Path) -> None:
    assert open_model(f"predictions:{log_file(tmp_path, [log_line(0, [['onion']])])}")
    file = log_file(tmp_path, [log_line(0, ["onion", "leek"])])
    with pytest.raises(UserError, match=r"jsonl:1: filtered_resps is not one answer"):
        open_model(f"predictions:{file}")
    file = log_file(tmp_path, [log_line(0, "onion"), log_line(0, "leek")])
    with pytest.raises(UserError, match=r"1 id with more than one prediction: 11 \(lines 1, 2\)"):
        open_model(f"predictions:{file}")


def test_a_folder_of_logs_answers_several_tasks(tmp_path: Path, data: Path) -> None:
    logs = tmp_path / "logs"
    rows = [log_line(at, row["answer"], named=False) for at, row in enumerate(QUESTIONS)]
    log_file(logs, rows)
    log_file(logs, rows[:2], task="msvd_qa")
    tasks = [TASK, "msvd_qa"]
    results = judge_predictions(logs, tasks, "exact", tmp_path / "run", data_dir=data)
    assert results["tasks"][TASK]["accuracy"]["value"] == 1
    assert results["tasks"]["msvd_qa"]["missing_predictions"] == ["13", "14"]
    log_file(logs, rows, date="2")
    with pytest.raises(UserError, match=rf"two sample logs of {TASK} \(1_samples.*, 2_samples"):
        open_model(f"predictions:{logs}")
    with pytest.raises(UserError, match="no sample log of lmms-eval in it"):
        open_model(f"predictions:{data}")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("pretrained=lab/model-7b,device=cpu", "lab/model-7b"),
        ({"model_version": "served", "api_key": "sk-secret"}, "served"),
        ("", "video_llava"),
        (None, "video_llava"),
    ],
)
def test_the_model_is_named_from_the_results_beside(
    tmp_path: Path, arguments: Any, name: str
) -> None:
    file = log_file(tmp_path, [log_line(0, "onion")], date="20260101_000000")
    config = {"model": "video_llava", "model_args": arguments}
    write_json(tmp_path / "20260101_000000_results.json", {"config": config})
    described = open_model(f"predictions:{file}").describe()
    assert described["name"] == name
    assert described["answered_by"]["adapter"] == "video_llava"
    assert "sk-secret" not in json.dumps(described)


def test_a_log_alone_has_its_own_name(tmp_path: Path) -> None:
    file = log_file(tmp_path, [log_line(0, "onion")])
    described = open_model(f"predictions:{file}").describe()
    assert described["name"] == file.name
    assert "answered_by" not in described
