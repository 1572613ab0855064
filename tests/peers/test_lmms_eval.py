"""The plug-in in lmms-eval 0.7.3 itself: its Video-LLaVA adapter on our tasks, against our own run.

A small random model, real clips. The adapter as it is cannot read a clip (first test); the others
fix it and give it our prompt, and then both harnesses say the same.
"""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.eval import judge_predictions, run_evaluation
from sharegptvideo.eval.lmms_eval_tasks import PREFIX, accuracy, folder, kind_of, n, process_results
from sharegptvideo.models import ModelSize
from tests.support.small_video_llava import build_small, write_questions

pytestmark = pytest.mark.peers
pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here (make test-peers)")

TASK = "msvd_qa_official"
EACH = 3  # questions on each of the five clips
SMALL = ModelSize(
    image=28,
    patch=14,
    vision_hidden=32,
    vision_layers=2,
    vision_heads=2,
    vision_mlp=64,
    text_hidden=48,
    text_layers=2,
    text_heads=2,
    text_mlp=96,
    init_std=0.3,
    position_std=0.3,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """Questions, clips and a model."""
    out = tmp_path_factory.mktemp("lmms")
    build_small(write_questions(shared_data, out, EACH), out / "model", SMALL)
    return out


@pytest.fixture(autouse=True)
def _settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_DATA_DIR", str(home))
    monkeypatch.setenv("SHAREGPTVIDEO_MEDIA", str(home / "clips"))
    monkeypatch.setenv("SHAREGPTVIDEO_JUDGE", "answer-match")
    monkeypatch.setenv("SHAREGPTVIDEO_OUT", str(tmp_path / "theirs"))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(home / "cache"))


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """lmms-eval's own Video-LLaVA can read a clip while the test lasts."""
    from lmms_eval.models.simple import video_llava

    from tests.support.lmms_eval_cli import fix_video_llava

    monkeypatch.setattr(video_llava, "read_video", video_llava.read_video)
    fix_video_llava()


def evaluate(home: Path, **more: Any) -> dict[str, Any]:
    """lmms-eval's results on the task: our prompt, eight new tokens, its own tasks left aside."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models.simple.video_llava import VideoLLaVA
    from lmms_eval.tasks import TaskManager

    adapter = VideoLLaVA(pretrained=str(home / "model"), device="cpu", device_map="auto")
    adapter.prompt = "USER: <video>\n{} ASSISTANT:"
    manager = TaskManager(include_path=str(folder()), include_defaults=False)
    found: dict[str, Any] = simple_evaluate(
        adapter,
        tasks=[TASK],
        task_manager=manager,
        batch_size=1,
        gen_kwargs="max_new_tokens=8",
        bootstrap_iters=0,
        **more,
    )
    return found


def ours(home: Path, out: Path, **more: Any) -> dict[str, Any]:
    results = run_evaluation(
        f"hf:{home / 'model'}",
        [TASK],
        "answer-match",
        out,
        data_dir=home,
        media=home / "clips",
        max_new_tokens=8,
        **more,
    )
    found: dict[str, Any] = results["tasks"][TASK]
    return found


def answers(run: Path) -> dict[str, str]:
    return {row["id"]: row["prediction"] for _, row in read_jsonl(run / "predictions.jsonl")}


def test_the_adapter_as_it_is_cannot_read_a_clip(home: Path) -> None:
    """Once this fails, lmms-eval has fixed it, and `fix_video_llava` can go."""
    with pytest.raises(TypeError, match=r"read_video\(\) takes 1 positional argument"):
        evaluate(home, limit=1)


@pytest.mark.usefixtures("fixed")
def test_both_harnesses_answer_and_count_the_same(home: Path, tmp_path: Path) -> None:
    theirs = evaluate(home)["results"][TASK]
    found = ours(home, tmp_path / "ours")
    said = answers(tmp_path / "theirs" / TASK)
    assert said == answers(tmp_path / "ours")
    assert len(set(said.values())) > EACH  # they depend on clip and question
    assert theirs["n,none"] == found["n"] == 5 * EACH
    assert theirs["videos,none"] == found["clusters"] == 5
    assert theirs["coverage,none"] == 1
    assert theirs["accuracy,none"] == found["accuracy"]["value"]
    for name in ("accuracy", "score"):
        # Answers that are all wrong show no spread: unknown, which lmms-eval can only call nan.
        error = found[name]["se"]
        expected = float("nan") if error is None else error
        assert theirs[f"{name}_se,none"] == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
    assert theirs["accuracy_low,none"] == found["accuracy"]["ci95"][0]
    assert theirs["accuracy_high,none"] == found["accuracy"]["ci95"][1]
    assert theirs["score,none"] == found["score"]["value"]
    record = read_json(tmp_path / "theirs" / TASK / "run.json")["model"]
    assert record["answered_by"]["lmms_eval"].startswith("0.7")


@pytest.mark.usefixtures("fixed")
def test_a_limit_and_a_missing_clip_leave_the_denominator_right(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    clips = sorted((home / "clips").iterdir())
    for clip in clips[1:]:
        (some / clip.name).symlink_to(clip.resolve())
    monkeypatch.setenv("SHAREGPTVIDEO_MEDIA", str(some))
    first = answers_to(home, clips[0].stem)
    theirs = evaluate(home)["results"][TASK]
    assert theirs["n,none"] == 5 * EACH
    results = read_json(tmp_path / "theirs" / TASK / "results.json")["tasks"][TASK]
    assert (results["n_failed"], results["missing_clips"]) == (len(first), [clips[0].stem])
    monkeypatch.setenv("SHAREGPTVIDEO_OUT", str(tmp_path / "limited"))
    theirs = evaluate(home, limit=2)["results"][TASK]
    # The missing clip's questions come first: asked for, though not of the model.
    assert theirs["n,none"] == EACH + 2


def answers_to(home: Path, video: str) -> list[dict[str, Any]]:
    rows = read_json(home / "msvd_qa_test_qa.json")
    assert f"vid{rows[0]['video_id']}" == video  # the first clip's questions are the file's first
    return [row for row in rows if f"vid{row['video_id']}" == video]


@pytest.mark.usefixtures("fixed")
@pytest.mark.parametrize("predict_only", [False, True])
def test_predictions_reads_the_sample_log(home: Path, tmp_path: Path, predict_only: bool) -> None:
    from lmms_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(tmp_path / "logs"))
    theirs = evaluate(home, evaluation_tracker=tracker, predict_only=predict_only)
    samples = theirs.pop("samples")
    tracker.save_results_aggregated(theirs, samples, datetime_str="20260101_000000")
    tracker.save_results_samples(task_name=TASK, samples=samples[TASK])
    (log,) = (tmp_path / "logs").rglob("*_samples_*.jsonl")
    results = judge_predictions(log, [TASK], "answer-match", tmp_path / "read", data_dir=home)
    found = ours(home, tmp_path / "ours")
    assert answers(tmp_path / "read") == answers(tmp_path / "ours")
    for figure in ("n", "n_failed", "accuracy", "score", "coverage"):
        assert results["tasks"][TASK][figure] == found[figure]


@pytest.mark.usefixtures("home")
def test_a_chat_model_is_given_the_clip_as_a_video() -> None:
    """Adapters of the other kind: a GIF among the clips, which lmms-eval takes for an image."""
    from lmms_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager(include_path=str(folder()), include_defaults=False)
    task = get_task_dict([TASK], manager, task_type="chat")[TASK]
    task.build_all_requests()
    assert len(task.instances) == 5 * EACH
    kinds = set()
    for instance in task.instances:
        prompt, to_messages, generation, at, _, split = instance.args
        doc = task.dataset[split][at]
        (turn,) = to_messages(doc)
        kinds.add(Path(doc["clip"]).suffix)
        assert turn["content"] == [
            {"type": "video", "url": doc["clip"]},
            {"type": "text", "text": prompt},
        ]
        assert prompt == doc["prompt"]
        assert generation["max_new_tokens"] == 1024
    assert kinds == {".mp4", ".gif"}


def test_every_task_is_in_the_index_and_none_is_lmms_evals_own() -> None:
    from lmms_eval.tasks import TaskManager

    from sharegptvideo.eval import list_tasks

    names = {f"{PREFIX if kind_of(task) != 'open' else ''}{task.name}" for task in list_tasks()}
    assert set(TaskManager(include_path=str(folder()), include_defaults=False).all_tasks) == names
    assert not names & set(TaskManager().all_tasks)


@pytest.mark.usefixtures("fixed")
def test_what_cannot_be_judged_keeps_the_answers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate(home, limit=2)
    monkeypatch.setenv("SHAREGPTVIDEO_JUDGE", "exact")  # the folder has another judge's verdicts
    theirs = evaluate(home, limit=2)
    assert math.isnan(theirs["results"][TASK]["accuracy,none"])
    assert math.isnan(theirs["results"][TASK]["score,none"])
    assert len(theirs["samples"][TASK]) == 2
    assert "holds another run" in caplog.text
    assert f"eval judge --predictions {tmp_path / 'theirs' / 'answers'}" in caplog.text


def test_without_a_folder_the_run_goes_beside_lmms_evals_output(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHAREGPTVIDEO_OUT")
    row = read_json(home / "msvd_qa_test_qa.json")[0]
    doc = {"id": str(row["id"]), "task": TASK}
    item = process_results(doc, [row["answer"]])["accuracy"]
    options = Namespace(
        output_path=str(tmp_path / "logs"),
        model="qwen3_vl",
        model_args="pretrained=lab/m",
        offset=0,
    )
    assert accuracy([item], options) == 1
    run = tmp_path / "logs" / "sharegptvideo" / "lab__m" / TASK
    assert read_json(run / "run.json")["model"]["name"] == "lab/m"
    assert n([TASK]) == 1
