"""One model in several processes: the same answers, in the same order, and nothing left behind."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.eval import run_evaluation
from sharegptvideo.models import Answer, Question, Request, SamplingParams, build_tiny, open_model
from sharegptvideo.models.parallel import ParallelModel, device_names

TEXTS = ["What is the baby doing? The baby is turning pages.", "A cat in a sink. Is it red? yes"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Video-LLaVA whose answers vary with clip and question."""
    import torch
    from transformers import VideoLlavaForConditionalGeneration

    folder = build_tiny(TEXTS * 3, tmp_path_factory.mktemp("parallel"), seed=0, size="tiny")
    model = VideoLlavaForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.mul_(20)
    model.save_pretrained(folder)
    return folder


def requests(video: int, questions: int) -> list[Request]:
    frames = np.random.default_rng(video).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    asked = [
        Question(f"{video}_{n}", "t", str(video), f"Is it red {n}?", "a") for n in range(questions)
    ]
    return [Request(question.question, frames, question=question) for question in asked]


def test_a_run_on_two_processes_is_that_on_one(
    checkpoint: Path, small_release: Any, tmp_path: Path
) -> None:
    """Begun on one device, cut off after the first answer, finished on two."""

    def run(devices: list[str] | None) -> list[bytes]:
        run_evaluation(
            *(f"hf:{checkpoint}", ["msvd_qa"], "exact", tmp_path / "run"),
            data_dir=small_release.folder,
            batch_size=2,
            devices=devices,
            max_new_tokens=6,
        )
        return [
            (tmp_path / "run" / name).read_bytes() for name in ("predictions.jsonl", "results.json")
        ]

    one = run(None)
    log = tmp_path / "run" / "predictions.jsonl"
    log.write_bytes(one[0].splitlines(keepends=True)[0])
    assert run(["cpu", "cpu"]) == one
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(written) == 6
    assert len({row["prediction"] for row in written}) > 3, "the test needs answers that differ"


def answered(model: Any, batch: list[Request]) -> list[Answer]:
    return list(model.generate(batch, SamplingParams(max_new_tokens=6)))


def test_each_device_gets_work_and_a_dead_one_is_reported(checkpoint: Path) -> None:
    model = open_model(f"hf:{checkpoint}", devices=["cpu", "cpu"])
    assert isinstance(model, ParallelModel)
    batches = [requests(video, 3) for video in range(4)]
    with ThreadPoolExecutor(model.workers) as pool:
        found = list(pool.map(partial(answered, model), batches))
    alone = open_model(f"hf:{checkpoint}", devices=["cpu"])
    assert found == [answered(alone, batch) for batch in batches]
    workers = [model._free.get() for _ in range(2)]
    first, second = (worker._process for worker in workers)
    assert first is not None
    assert second is not None, "both were asked"
    for worker in workers:
        model._free.put(worker)
    first.kill()
    with pytest.raises(UserError, match=r"its process on cpu ended with code -9.*run again"):
        answered(model, batches[0])
    # The other one goes on, and the dead one is started anew.
    assert [answered(model, batches[0]) for _ in range(2)] == [found[0]] * 2
    renewed = workers[0]._process
    assert renewed is not None
    del model, worker, workers
    assert [process.wait(20) for process in (renewed, second)] == [-9, -9], "none is left running"


def test_a_question_that_cannot_be_put_fails_alone(checkpoint: Path) -> None:
    model = open_model(f"hf:{checkpoint}")
    good, bad = requests(0, 2)
    bad = Request("What is <video>?", bad.frames, question=bad.question)
    found = answered(model, [good, bad])
    assert found[0].error is None
    assert "<video>" in str(found[1].error)


def test_broken_weights_end_the_run_and_fail_no_question(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])
    model = open_model(f"hf:{folder}")
    with pytest.raises(UserError, match="the weights cannot be read"):
        answered(model, requests(0, 2))


def test_a_device_too_small_for_one_question_is_reported(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sharegptvideo.models import VideoLlavaModel

    def too_small(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(VideoLlavaModel, "load", too_small)
    with pytest.raises(UserError, match="no memory for it and one question") as caught:
        answered(open_model(f"hf:{checkpoint}"), requests(0, 2))
    assert caught.value.exit_code == 1


def test_devices_are_checked_before_anything_is_started(checkpoint: Path) -> None:
    assert device_names(["cpu", "cpu"]) == ["cpu", "cpu"]
    for devices, message in (
        (["gpu"], "'gpu': write cuda:0, cpu or all"),
        (["cuda:99"], "'cuda:99': there are"),
        ([], "no device named"),
        ([""], "'': write cuda:0"),
    ):
        with pytest.raises(UserError, match=message):
            open_model(f"hf:{checkpoint}", devices=devices)
    with pytest.raises(UserError, match="leave --devices out"):
        open_model("openai:x", devices=["cpu"])


@pytest.mark.parametrize("said", [b"", pickle.dumps((dict, "name", 1))[:-3]])
def test_a_process_whose_caller_is_gone_before_it_had_said_all_ends_quietly(said: bytes) -> None:
    command = [sys.executable, "-m", "sharegptvideo.models.parallel", "cpu", "1"]
    done = subprocess.run(command, input=said, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
