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
    PREFIX,
    Settings,
    cannot_be_asked,
    documents,
    folder,
    kind_of,
    messages,
    process_results,
    task_questions,
)
from sharegptvideo.eval.tasks import load_questions
from sharegptvideo.models import open_model
from sharegptvideo.models.predictions import ID_FIELDS
from tests.support import benchmark_files

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


def merged(name: str) -> dict[str, Any]:
    """A file over those that it includes, as lmms-eval merges them."""
    given = read_yaml(folder() / name)
    included = given.pop("include", None)
    return (merged(included) if included else {}) | given


def test_every_task_is_there_with_its_version_and_length() -> None:
    files = {file.stem for file in folder().glob("*.yaml") if not file.stem.startswith("shared")}
    assert sorted(files) == [task.name for task in list_tasks()]
    for task in list_tasks():
        given = merged(f"{task.name}.yaml")
        plain = kind_of(task) == "open"
        assert given["task"] == ("" if plain else PREFIX) + task.name
        assert given["metadata"] == {"version": task.version}
        assert given["process_docs"].endswith(f".lmms_eval_tasks.{task.name}")
        assert callable(getattr(lmms_eval_tasks, task.name))
        assert [each["metric"] for each in given["metric_list"]] == list(FIGURES[kind_of(task)])
        if task.choice == "likelihood":
            assert (given["output_type"], given["doc_to_choice"]) == ("multiple_choice", "options")
            assert given["generation_kwargs"] is None
            continue
        assert given["output_type"] == "generate_until"
        assert given["generation_kwargs"]["max_new_tokens"] == task.max_new_tokens
        assert given["generation_kwargs"]["until"] == []  # lmms-eval's own would cut at blank lines


def test_every_figure_has_its_function() -> None:
    for shared in folder().glob("shared*.yaml"):
        for metric in merged(shared.name)["metric_list"]:
            name = metric["metric"]
            assert metric["aggregation"].endswith(f".lmms_eval_tasks.{name}")
            assert callable(getattr(lmms_eval_tasks, name))
            assert metric["higher_is_better"] is not name.endswith("_se")
    for names in FIGURES.values():
        assert sorted(names)[0] == names[0]  # first in either order
        assert names[0] in ID_FIELDS
    with pytest.raises(AttributeError, match="no attribute 'f2'"):
        _ = lmms_eval_tasks.f2


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


def figures_of(name: str, said: dict[str, Any]) -> dict[str, float]:
    """What lmms-eval would show of a task, for what a model says to each document's prompt."""
    docs = documents(name, Settings.read())
    parts = [process_results(doc, said[doc["id"]]) for doc in docs]
    return {
        figure: getattr(lmms_eval_tasks, figure)([part[figure] for part in parts])
        for figure in FIGURES[kind_of(load_task(name))]
    }


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data in `data`, clips found there, run folders in `runs`, no judge named."""
    monkeypatch.setenv("SHAREGPTVIDEO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SHAREGPTVIDEO_OUT", str(tmp_path / "runs"))
    monkeypatch.delenv("SHAREGPTVIDEO_MEDIA", raising=False)
    monkeypatch.delenv("SHAREGPTVIDEO_JUDGE", raising=False)
    return tmp_path


def test_letters_are_of_the_options_as_they_are_shown(environment: Path) -> None:
    benchmark_files.nextqa(environment / "data")
    questions = load_questions(load_task("nextqa"), environment / "data")
    said = {q.id: ["ABCDE"[q.shown_options.index(q.answer)]] for q in questions}
    found = figures_of("nextqa", said)
    assert (found["accuracy"], found["chance"], found["n"]) == (1.0, 0.2, 4)
    rows = (environment / "runs" / "answers" / "nextqa.jsonl").read_text()
    assert rows.count('"options"') == 4
    # A log, with the ids or without them: the same letters, the same options.
    for named in (True, False):
        lines = []
        for at, doc in enumerate(documents("nextqa", Settings.read())):
            line = {"doc_id": at, "target": doc["answer"], "input": doc["prompt"]}
            line["filtered_resps"] = said[doc["id"]]
            if named:
                line |= process_results(doc, said[doc["id"]])
            lines.append(line)
        logs = environment / f"logs{named}"
        log_file(logs, lines, task=PREFIX + "nextqa")
        out = environment / f"run{named}"
        again = judge_predictions(logs, ["nextqa"], None, out, data_dir=environment / "data")
        assert again["tasks"]["nextqa"]["accuracy"]["value"] == 1.0


def test_the_least_loss_is_the_likeliest_option(environment: Path) -> None:
    name = "nextqa_likelihood"
    benchmark_files.nextqa(environment / "data")
    questions = load_questions(load_task(name), environment / "data")
    said: dict[str, Any] = {
        q.id: [(0.5 if option == q.answer else 2.0, False) for option in q.shown_options]
        for q in questions
    }
    # As lmms-eval 0.7.3 hands them on.
    said[questions[2].id] = [str(each) for each in said[questions[2].id]]
    assert figures_of(name, said)["accuracy"] == 1.0
    said[questions[0].id] = [(-9.0, False)] * 5  # sums of log-probabilities: the other way round
    found = figures_of(name, said | {questions[1].id: [(1.0, False)] + [(0.9, False)] * 4})
    assert found["n"] == 4
    assert figures_of(name, said | {questions[2].id: ["(tensor(1.), False)"] * 5})["n"] == 4
    kept = (environment / "runs" / name / "predictions.jsonl").read_text()
    assert "the adapter gives no mean losses of the options" in kept
    assert found["accuracy"] <= 3 / 4
    # A log has the losses as the answer; which option it was, and what failed, stand beside them.
    lines = [
        {"doc_id": at, "target": doc["answer"], "input": doc["prompt"]}
        | {"filtered_resps": list(map(str, said[doc["id"]]))}
        | process_results(doc, said[doc["id"]])
        for at, doc in enumerate(documents(name, Settings.read()))
    ]
    log_file(environment / "logs", lines, task=PREFIX + name)
    read = judge_predictions(
        environment / "logs", [name], None, environment / "run", data_dir=environment / "data"
    )["tasks"][name]
    assert (read["n_failed"], read["accuracy"]["value"]) == (1, 3 / 4)


def test_pairs_of_yes_and_no(environment: Path) -> None:
    benchmark_files.videohallucer(environment / "data")
    questions = load_questions(load_task("videohallucer"), environment / "data")
    found = figures_of("videohallucer", {q.id: ["Yes."] for q in questions})
    assert (found["pair_accuracy"], found["yes_rate"]) == (0.0, 1.0)
    found = figures_of("videohallucer", {q.id: [q.answer] for q in questions})
    assert (found["pair_accuracy"], found["accuracy"], found["chance"]) == (1.0, 1.0, 0.25)


def test_descriptions_and_aspects_by_a_served_judge(
    environment: Path, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Precision 1/2, recall 1/4 of every clip, so F1 1/3; aspects 4 each."""
    data = environment / "data"
    captions = [{"video_name": f"c{at}.mp4", "detailed_caption": "A dog."} for at in (1, 2)]
    write_jsonl(data / "VDC_1k.jsonl", captions)
    pair = {"Q1": "What?", "Q2": "Which?", "A": "It.", "video_name": "c1"}
    write_json(data / "consistency_qa.json", [pair])
    for at in (1, 2):
        (data / f"c{at}.mp4").write_bytes(b"never opened here")
    claims = [{"claim": "a", "supported": "yes"}, {"claim": "b", "supported": "no"}]
    covered = [{"claim": str(at), "covered": "yes" if at == 0 else "no"} for at in range(4)]
    counted = json.dumps({"claims": claims, "reference_claims": covered})
    chat_server.models = ["m"]
    chat_server.answer = lambda body: (
        counted if "claim by claim" in str(body) else '{"explanation": "", "score": 4}'
    )
    monkeypatch.setenv("SHAREGPTVIDEO_JUDGE", "openai:m")
    monkeypatch.setenv("OPENAI_BASE_URL", chat_server.url)
    said = {f"c{at}.mp4": [f"A cat, {at}."] for at in (1, 2)}
    found = figures_of("video_detailed_caption", said)
    assert (found["answers"], found["n"], found["videos"]) == (2, 2, 2)
    assert (found["claim_precision"], found["claim_recall"]) == (1 / 2, 1 / 4)
    assert found["f1"] == pytest.approx(1 / 3)
    found = figures_of(
        "video_chatgpt_consistency",
        {"consistency_qa-1-1": ["It is."], "consistency_qa-1-2": ["That."]},
    )
    assert (found["answers"], found["score"], found["coverage"]) == (2, 4, 1)


def test_a_judge_that_cannot_read_a_task_is_refused_before_the_model_loads(
    environment: Path,
) -> None:
    write_jsonl(environment / "data" / "VDC_1k.jsonl", [{"video": "a", "caption": "A dog."}])
    with pytest.raises(SystemExit, match="claims, which needs a language model"):
        lmms_eval_tasks.video_detailed_caption(None)


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
