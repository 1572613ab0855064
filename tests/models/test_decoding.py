"""Answers decoded in slots of fixed shapes are those decoded in batches, and `generate`'s own."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import VideoLlavaForConditionalGeneration

from sharegptvideo.errors import UserError
from sharegptvideo.models import (
    Request,
    SamplingParams,
    VideoLlavaModel,
    conversation,
    encode,
    expand_video,
    video_token_count,
)
from sharegptvideo.models.pixels import Frames
from tests.support.answer_likelihood import (
    compare_answers,
    log_probability,
    plain_ids,
    token_ids,
)
from tests.support.pretended_gpu import with_graphs

QUESTIONS = ("What colour is the picture?", "Describe the video.", "Red?", "Why? " * 9, "Who?")
Items = list[tuple[Frames, str]]


@pytest.fixture(scope="module", params=["", "grouped-queries"])
def model(tiny: Path, request: pytest.FixtureRequest) -> VideoLlavaModel:
    """The random model with its logits stretched, so that its answers vary with the input."""
    loaded = VideoLlavaModel(str(tiny), device="cpu")
    if request.param:
        config = loaded.model.config
        config.text_config.num_key_value_heads = 1
        config.text_config.initializer_range = 0.2
        torch.manual_seed(3)
        other = VideoLlavaForConditionalGeneration(config).eval()
        loaded = VideoLlavaModel(str(tiny), model=other)
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(40)
        for parameter in loaded.model.model.multi_modal_projector.parameters():
            parameter.mul_(20)
    return loaded


@pytest.fixture(scope="module")
def clips() -> list[Frames]:
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 256, (4, 20, 24, 3), dtype=np.uint8) for _ in range(4)]


@pytest.fixture(scope="module")
def items(clips: list[Frames]) -> Items:
    """Five questions to one clip, one to the next, two, three; not in the order of the clips."""
    asked = [(clip, q) for clip, n in zip(clips, (5, 1, 2, 3), strict=True) for q in QUESTIONS[:n]]
    return [asked[at] for at in (5, 0, 1, 8, 6, 2, 9, 3, 7, 10, 4)]


@pytest.fixture
def ends(model: VideoLlavaModel, items: Items, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Some words end an answer, so that answers end at different steps."""
    endless = [plain_ids(model, *item, 20) for item in items[:6]]
    found = sorted({ids[4 + 3 * number] for number, ids in enumerate(endless[:4])})
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", found)
    return found


def anew(model: VideoLlavaModel) -> VideoLlavaModel:
    """The same weights in another model, which has asked nothing yet."""
    return VideoLlavaModel(model.spec.partition(":")[2], model=model.model)


def ask(model: VideoLlavaModel, items: Items, slots: bool, rows: int, **draw: Any) -> list[Any]:
    model.in_slots, model.batch_size = slots, rows
    requests = [Request(question, frames) for frames, question in items]
    answers = list(model.generate(requests, SamplingParams(**draw)))
    assert [answer.request for answer in answers] == requests
    return [answer.error or list(answer.texts) for answer in answers]


@pytest.mark.parametrize("rows", [99, 6, 3])
@pytest.mark.usefixtures("ends")
def test_slots_give_what_batches_give(model: VideoLlavaModel, items: Items, rows: int) -> None:
    """Rows that end early, whose places others take; more clips than slots, unlike in questions."""
    model = anew(model)
    for draw in ({}, {"n": 3, "temperature": 1.0, "top_p": 0.9, "seed": 5}):
        expected = ask(model, items, False, 99, max_new_tokens=20, **draw)
        assert ask(model, items, True, rows, max_new_tokens=20, **draw) == expected
        assert len({text for texts in expected for text in texts}) > 6, "answers have to differ"


def test_greedy_answers_in_slots_are_those_of_transformers(
    model: VideoLlavaModel, items: Items, ends: list[int]
) -> None:
    model = anew(model)
    ids = [plain_ids(model, *item, 20, eos_token_id=ends, pad_token_id=0) for item in items]
    lengths = {len(each) for each in ids}
    assert len(lengths) >= 3, "the test needs rows that end one after the other"
    answers = [each[:-1] if each[-1] in ends else each for each in ids]
    texts = model.tokenizer.batch_decode(answers, skip_special_tokens=True)
    assert ask(model, items, True, 4, max_new_tokens=20) == [[text.strip()] for text in texts]


def test_clips_of_unlike_lengths_share_the_slots(model: VideoLlavaModel, items: Items) -> None:
    """Four frames, three and two: masks hide what a shorter clip leaves of its slot."""
    mixed = [(frames[: 4 - at % 3], question) for at, (frames, question) in enumerate(items)]
    expected = ask(model, mixed, False, 99, max_new_tokens=8)
    for rows in (99, 3):
        assert ask(model, mixed, True, rows, max_new_tokens=8) == expected


@pytest.mark.parametrize("fails", [None, "operation not permitted when stream is capturing"])
@pytest.mark.usefixtures("ends")
def test_a_captured_step_gives_the_same(
    model: VideoLlavaModel, items: Items, monkeypatch: pytest.MonkeyPatch, fails: str | None
) -> None:
    """Replayed from the tensors that it was captured with, in both calls; else one line says it."""
    model = anew(model)
    expected = ask(model, items, False, 99, max_new_tokens=20)
    graphs = with_graphs(monkeypatch, fails)
    model.in_slots = True
    model.decoder.captured = True
    says = pytest.warns(UserWarning, match=f"without a CUDA graph, .*{fails}") if fails else None
    with says or contextlib.nullcontext() as said:
        for _ in range(2):
            assert ask(model, items, True, 6, max_new_tokens=20) == expected
    assert len(graphs) == 1, "captured once for both calls"
    assert said is None or len(said) == 1
    assert (graphs[0].replays == 0) is (fails is not None)
    if fails:
        return
    draw = {"n": 2, "temperature": 1.0, "max_new_tokens": 20}
    assert ask(model, items, True, 6, **draw) == ask(model, items, False, 6, **draw)


@pytest.mark.parametrize("sampled", [False, True])
def test_memory_halves_the_rows_and_changes_no_answer(
    model: VideoLlavaModel, items: Items, monkeypatch: pytest.MonkeyPatch, sampled: bool
) -> None:
    draw: dict[str, Any] = {"max_new_tokens": 8, "temperature": float(sampled)}
    draw["n"] = 2 if sampled else 1
    whole = ask(model, items, False, 99, **draw)
    language = model.model.model.language_model
    forward = language.forward
    rows: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        if "input_ids" in kwargs:
            rows.append(len(kwargs["input_ids"]))
            if rows[-1] > most:
                raise torch.OutOfMemoryError("no room")
        return forward(*args, **kwargs)

    most = 99
    monkeypatch.setattr(language, "forward", watched)
    model = anew(model)
    model.memory_limit = 1  # by estimate: a prompt at a time
    assert ask(model, items, True, 99, **draw) == whole
    assert max(rows) == draw["n"]
    model.memory_limit, most = None, 3  # by an error
    assert ask(model, items, True, 99, **draw) == whole
    most = 0
    with pytest.raises(UserError, match="no memory for it and one question"):
        ask(model, items[:1], True, 99, **draw)


def test_all_rows_of_all_clips_go_together(
    model: VideoLlavaModel, items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 clips with 6 questions each: 4 clips are read, all questions at once, then 7 steps."""
    calls: list[tuple[int, ...]] = []
    handle = model.model.model.language_model.register_forward_pre_hook(
        lambda _module, _args, given: calls.append(
            tuple(given["inputs_embeds" if "inputs_embeds" in given else "input_ids"].shape[:2])
        ),
        with_kwargs=True,
    )
    asked = [(frames, f"Is it {n}?") for frames, _ in items[:4] for n in range(6)]
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", [2**30])
    model = anew(model)
    try:
        clips = len({id(frames) for frames, _ in asked})
        ask(model, asked, True, 99, max_new_tokens=7)
    finally:
        handle.remove()
    rows = len(asked)
    assert [count for count, _ in calls[:clips]] == [1] * clips
    assert calls[clips][0] == rows
    assert len({*calls[clips + 1 :]}) == 1, "fixed shapes"
    assert len(calls[clips + 1 :]) == 7
    assert calls[-1][0] >= rows


def test_answers_come_as_they_are_done(model: VideoLlavaModel, items: Items) -> None:
    """With a place for one prompt, the first answer is there when one clip has been read."""
    seen: list[int] = []
    handle = model.model.model.video_tower.register_forward_hook(
        lambda _module, _inputs, output: seen.append(len(output[0]))
    )
    model.in_slots, model.batch_size = True, 1
    one_by_one = sorted(items, key=lambda item: id(item[0]))
    requests = [Request(question, frames) for frames, question in one_by_one]
    answers = model.generate(requests, SamplingParams(max_new_tokens=3))
    try:
        assert next(answers).request is requests[0]
        assert not torch.is_inference_mode_enabled(), "not while the caller has an answer"
        assert len(seen) == 1
    finally:
        handle.remove()
        answers.close()  # type: ignore[attr-defined]  # a generator
    again = list(model.generate(requests, SamplingParams(max_new_tokens=3)))
    assert not any(answer.error for answer in again), "an iterator that was left is no harm"


def test_where_slots_are_used(
    model: VideoLlavaModel, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA devices, with hundreds of requests a batch; a size that is given holds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = VideoLlavaModel(str(tiny))
    assert (gpu.width, gpu.limits().rows) == (512, 256)
    gpu = VideoLlavaModel(str(tiny), batch_size=24)
    assert (gpu.width, gpu.limits().rows) == (1, 24)
    cpu = VideoLlavaModel(str(tiny), model=model.model)
    assert (cpu.width, cpu.limits().rows) == (1, 96)
    assert not cpu.decoder.in_slots
    cpu.in_slots = True
    assert cpu.decoder.in_slots
    assert not cpu.in_training("a", batch_size=2).decoder.in_slots, "weights move in training"


def test_logits_in_half_precision_are_as_near_as_plain_rows(
    tiny: Path, model: VideoLlavaModel, clips: list[Frames]
) -> None:
    """The first step's, of five rows after a clip: within twice the error of rows of their own."""
    half = VideoLlavaModel(str(tiny), model=copy.deepcopy(model.model).to(torch.bfloat16))
    half.in_slots = True
    logits: list[torch.Tensor] = []
    requests = [Request(question, clips[0]) for question in QUESTIONS]
    handle = half.model.lm_head.register_forward_hook(lambda _m, _i, out: logits.append(out))
    try:
        list(half.generate(requests, SamplingParams(max_new_tokens=1)))
    finally:
        handle.remove()
    found = logits[-1][: len(QUESTIONS)].float()
    exact, rows = (last_logits(each, clips[0]) for each in (model, half))
    error = (found - exact).norm()
    assert 0 < error < 2 * (rows - exact).norm()


@torch.inference_mode()
def last_logits(model: VideoLlavaModel, frames: Frames) -> torch.Tensor:
    """Of each of QUESTIONS in a plain row of its own."""
    config = model.model.config
    count = video_token_count(config, len(frames))
    pixels = model.pixels(frames)[None].to(model.model.dtype)
    rows = []
    for question in QUESTIONS:
        ids, said = encode(model.tokenizer, conversation(question))
        ids, _ = expand_video(ids, said, config.video_token_id, count)
        output = model.model(input_ids=torch.tensor([ids]), pixel_values_videos=pixels)
        rows.append(output.logits[0, -1].float())
    return torch.stack(rows)


OPTIONS = ("red", "it is a very long answer indeed", "Green.", "no")


def test_the_likeliest_option_is_that_of_plain_rows(model: VideoLlavaModel, items: Items) -> None:
    """Each option in a row of its own, without a cache: the mean log-probability of its tokens."""
    model.in_slots, model.batch_size = False, 8
    requests = [Request(question, frames, options=OPTIONS) for frames, question in items[:6]]
    answers = list(model.generate(requests, SamplingParams()))
    for request, answer in zip(requests, answers, strict=True):
        means = []
        for option in OPTIONS:
            ids, said = encode(model.tokenizer, conversation(request.prompt, option))
            own = [token for token, one in zip(ids, said, strict=True) if one]
            own = own[: own.index(model.tokenizer.eos_token_id)]  # what closes it is left out
            means.append(log_probability(model, request, own) / len(own))
        assert answer.option_scores == pytest.approx(means, abs=1e-4)
        assert answer.texts == (OPTIONS[int(np.argmax(means))],)
    first = [answer.option_scores[0] for answer in answers]
    assert max(first) - min(first) > 0.1, "scores have to vary with clip and question"
    model.in_slots = True  # as on a GPU
    again = list(model.generate(requests, SamplingParams()))
    for one, other in zip(answers, again, strict=True):
        assert one.option_scores == pytest.approx(other.option_scores, abs=1e-5)


def test_options_without_a_clip_and_an_option_without_room(
    model: VideoLlavaModel, items: Items
) -> None:
    (frames, question), mixed = items[0], ("a", "b")
    long = Request(question, frames, options=("red", "word " * 5000))
    requests = [Request(question, frames, options=mixed), long, Request("Who?", options=mixed)]
    answers = list(model.generate(requests, SamplingParams()))
    assert [answer.text in mixed for answer in answers] == [True, False, True]
    assert "tokens leaves no room" in str(answers[1].error)
    assert len(answers[2].option_scores) == 2


def test_answers_are_compared_by_how_likely_they_are(model: VideoLlavaModel, items: Items) -> None:
    """Greedy answers against themselves, and against answers whose first token is another."""
    requests = [Request(question, frames) for frames, question in items[:4]]
    model.in_slots = True
    ids = [answer for (answer,) in token_ids(model, requests, SamplingParams(max_new_tokens=5))]
    same = compare_answers(model, requests, ids, ids)
    assert (same["equal"], same["difference"], same["as_likely"]) == (4, 0.0, True)
    worse = [[(answer[0] + 1) % 100, *answer[1:]] for answer in ids]
    below = compare_answers(model, requests, worse, ids)
    assert below["equal"] == 0
    assert not below["as_likely"]
    assert compare_answers(model, requests, ids, worse)["as_likely"]
    one = log_probability(model, requests[0], ids[0][:1])
    logits = last_logits(model, items[0][0])[QUESTIONS.index(items[0][1])]
    assert one == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-4)
