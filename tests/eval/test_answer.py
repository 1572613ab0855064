"""Clips are decoded ahead and once, and go to the model whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sharegptvideo.media
from sharegptvideo._concurrency import available_cores
from sharegptvideo._io import KeyedLog
from sharegptvideo.errors import UserError
from sharegptvideo.eval.answer import answer_questions
from sharegptvideo.eval.tasks import load_task
from sharegptvideo.media import MediaError, SampledFrames
from sharegptvideo.models import Answer, Model, Question, Request, SamplingParams
from sharegptvideo.models.batches import decoding_width


class Decoder:
    """In place of `sample_frames`: clip `7` has frames of 7; keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun: dict[str, threading.Event] = {str(n): threading.Event() for n in range(40)}

    def __call__(self, video: str, n: int) -> SampledFrames:
        self.asked.append(video)
        self.begun[video].set()
        if video == "3":
            raise MediaError("3: torn")
        return SampledFrames(np.full((n, 2, 2, 3), int(video), dtype=np.uint8), list(range(n)))


class Watching(Model):
    """A model that waits, with a clip, until the next one is being decoded."""

    spec = "python:x:y"

    def __init__(self, decoder: Decoder, last: int) -> None:
        self.decoder, self.last = decoder, last
        self.batches: list[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        del params
        self.batches.append(videos(requests))
        later = str(min(int(videos(requests)[-1]) + 1, self.last))
        assert self.decoder.begun[later].wait(20), "nothing is decoded while the model works"
        for request in requests:
            assert request.frames is not None
            yield Answer(request, (str(request.frames[0, 0, 0, 0]),))


def videos(requests: Sequence[Request]) -> list[str]:
    return [request.question.video for request in requests if request.question]


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    made = Decoder()
    monkeypatch.setattr(sharegptvideo.media, "sample_frames", made)
    return made


def ask(model: Any, path: Path, sizes: Sequence[int], batch_size: int) -> dict[str, Any]:
    """Clip n has sizes[n] questions, mixed with the others'; gives the log's rows."""
    questions = [
        Question(f"{video}_{k}", "msvd_qa", str(video), "?", "a", video_path=str(video))
        for k in range(max(sizes))
        for video, size in enumerate(sizes)
        if k < size
    ]
    with KeyedLog(path / "log.jsonl", key=("task", "id")) as log:
        answer_questions(
            *(load_task("msvd_qa"), questions, model, log),
            frames=2,
            params=SamplingParams(max_new_tokens=4),
            batch_size=batch_size,
        )
        return log.rows


def test_the_next_clip_is_decoded_while_the_model_works(decoder: Decoder, tmp_path: Path) -> None:
    model = Watching(decoder, last=29)
    rows = ask(model, tmp_path, [2] * 30, batch_size=2)
    assert decoder.asked == [str(n) for n in range(30)]  # each once, in order
    assert len(rows) == 60
    for row in rows.values():
        if row["video"] == "3":
            assert (row["status"], row["error"]) == ("failed", "3: torn")
        else:
            assert row["prediction"] == row["video"]  # never another clip's frames
    assert model.batches[0] == ["0", "0"]


def test_the_questions_of_a_clip_stay_together(decoder: Decoder, tmp_path: Path) -> None:
    model = Watching(decoder, last=5)
    ask(model, tmp_path, [2, 3, 1, 1, 4, 9], batch_size=4)
    assert model.batches == [
        ["0", "0"],
        ["1", "1", "1", "2"],
        ["4", "4", "4", "4"],
        ["5"] * 9,
    ]


def test_an_error_of_the_model_leaves_no_decoder_behind(decoder: Decoder, tmp_path: Path) -> None:
    class Broken(Watching):
        def generate(self, *_: Any, **__: Any) -> Iterator[Answer]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(Broken(decoder, 29), tmp_path, [1] * 30, batch_size=1)
    _, ahead = decoding_width(8, available_cores())
    assert len(decoder.asked) <= min(ahead + 4, 29)  # the first and a few ahead, not all
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize(
    ("frames", "cores", "width"),
    [
        (8, 1, (2, 4)),
        (8, 2, (2, 4)),
        (8, 4, (2, 4)),
        (8, 16, (14, 16)),
        (8, 256, (40, 40)),  # 40 × 8 frames of 1080p are 2 GB
        (64, 16, (5, 5)),
        (1000, 16, (4, 4)),
    ],
)
def test_as_many_decoders_as_cores_and_memory_allow(
    frames: int, cores: int, width: tuple[int, int]
) -> None:
    assert decoding_width(frames, cores) == width


class Crew(Model):
    """Answers two batches at once: each waits for the other to have begun; one breaks."""

    spec, workers = "hf:x", 2

    def __init__(self, breaks: str) -> None:
        self.together = threading.Barrier(2)
        self.breaks = breaks
        self.begun: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        del params
        video = videos(requests)[0]
        self.begun.append(video)
        self.together.wait(20)
        if video == self.breaks:
            raise UserError("the device is gone", exit_code=1)
        for request in requests:
            assert request.frames is not None
            yield Answer(request, (str(request.frames[0, 0, 0, 0]),))


@pytest.mark.usefixtures("decoder")
def test_batches_answered_at_once_are_written_in_order(tmp_path: Path) -> None:
    rows = ask(Crew(breaks="none"), tmp_path, [2] * 3 + [0] + [2] * 9, batch_size=2)
    answered = [(row["video"], row["prediction"]) for row in rows.values()]
    assert answered == [(str(n), str(n)) for n in (0, 1, 2, *range(4, 13)) for _ in range(2)]


@pytest.mark.usefixtures("decoder")
def test_what_the_others_were_answering_is_kept_when_one_breaks(tmp_path: Path) -> None:
    crew = Crew(breaks="0")
    with pytest.raises(UserError, match="the device is gone"):
        ask(crew, tmp_path, [1] * 2, batch_size=1)
    assert sorted(crew.begun) == ["0", "1"]
    kept = [json.loads(line)["id"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert kept == ["1_0"]
