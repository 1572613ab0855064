"""Answers: the same in any company, seeded, and those that transformers itself gives."""

from __future__ import annotations

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
    build_tiny,
    conversation,
    encode,
    video_token_count,
)
from sharegptvideo.models.pixels import Frames
from tests.support.answer_likelihood import plain_ids
from tests.support.training_fixtures import TEXTS

QUESTIONS = ("What colour is the picture?", "Describe the video.", "Red?")


@pytest.fixture(scope="module", params=["", "grouped-queries", "llava_hound"])
def model(
    tiny: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> VideoLlavaModel:
    """The random model with its logits stretched, so that its answers vary with the input.

    With two heads of keys and values, with one that both heads of queries share, and LLaVA-Hound.
    """
    path = tiny
    if request.param == "llava_hound":
        path = tmp_path_factory.mktemp("hound") / "model"
        build_tiny(TEXTS, path, seed=3, size="tiny", architecture="llava_hound")
    loaded = VideoLlavaModel(str(path), device="cpu")
    if request.param == "grouped-queries":
        loaded = with_shared_keys(loaded, str(tiny))
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(40)
        for parameter in loaded.model.model.multi_modal_projector.parameters():
            parameter.mul_(20)
    return loaded


def with_shared_keys(loaded: VideoLlavaModel, path: str) -> VideoLlavaModel:
    config = loaded.model.config
    config.text_config.num_key_value_heads = 1
    config.text_config.initializer_range = 0.2
    torch.manual_seed(3)
    model = VideoLlavaForConditionalGeneration(config).eval()
    assert model.model.language_model.layers[0].self_attn.k_proj.out_features == 24
    return VideoLlavaModel(path, model=model)


@pytest.fixture(scope="module")
def items() -> list[tuple[Frames, str]]:
    numbers = np.random.default_rng(0)
    clips = [numbers.integers(0, 256, (4, 20, 24, 3), dtype=np.uint8) for _ in range(3)]
    return [(clip, question) for clip in clips for question in QUESTIONS]


def generate(
    model: VideoLlavaModel, items: list[tuple[Frames, str]], batch_size: int = 64, **params: Any
) -> list[list[str]]:
    model.batch_size = batch_size
    requests = [Request(question, frames) for frames, question in items]
    answers = list(model.generate(requests, SamplingParams(**params)))
    assert [answer.request for answer in answers] == requests
    assert not any(answer.error for answer in answers)
    return [list(answer.texts) for answer in answers]


def test_a_batch_answers_as_one_by_one(
    model: VideoLlavaModel, items: list[tuple[Frames, str]]
) -> None:
    together = generate(model, items, max_new_tokens=12)
    alone = [generate(model, [item], max_new_tokens=12)[0] for item in items]
    assert together == alone
    assert len({answer for (answer,) in together}) > 3, "the test needs answers that differ"


def test_greedy_answers_are_those_of_transformers(
    model: VideoLlavaModel, items: list[tuple[Frames, str]]
) -> None:
    for frames, question in items[:4]:
        expected = text(model, plain_ids(model, frames, question, 12))
        assert generate(model, [(frames, question)], max_new_tokens=12) == [[expected]]


def text(model: VideoLlavaModel, ids: list[int]) -> str:
    return str(model.tokenizer.decode(ids, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("batch_size", [64, 5])
def test_uneven_clips_in_one_batch_and_answers_that_end_at_different_times(
    model: VideoLlavaModel,
    items: list[tuple[Frames, str]],
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    k: int,
) -> None:
    """Three questions, one and two, not in the order of the clips; some words end an answer."""
    asked = [items[position] for position in (6, 0, 3, 1, 7, 2)]
    endless = [plain_ids(model, *item, 20) for item in asked]
    ends = sorted({ids[4 + 3 * number] for number, ids in enumerate(endless)})
    expected = []
    for item in asked:
        ids = plain_ids(model, *item, 20, eos_token_id=ends, pad_token_id=0)
        expected.append(ids[:-1] if ids[-1] in ends else ids)
    lengths = {len(ids) for ids in expected}
    assert len(lengths) >= 3, "the test needs rows that drop out one after the other"
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", ends)
    model = VideoLlavaModel(model.spec.partition(":")[2], model=model.model)
    found = generate(model, asked, max_new_tokens=20, n=k, batch_size=batch_size)
    assert found == [[text(model, ids)] * k for ids in expected]


def test_a_draw_depends_on_seed_clip_and_question_alone(
    model: VideoLlavaModel, items: list[tuple[Frames, str]]
) -> None:
    draw = {"max_new_tokens": 8, "temperature": 1.0, "n": 3}
    all_at_once = generate(model, items, seed=1, **draw)
    assert all_at_once == generate(model, items, seed=1, batch_size=4, **draw)
    assert all_at_once[4:6] == generate(model, items[4:6], seed=1, **draw)
    assert all_at_once != generate(model, items, seed=2, **draw)
    assert all(len(answers) == 3 for answers in all_at_once)
    assert any(len(set(answers)) > 1 for answers in all_at_once)


def test_draws_follow_the_distribution() -> None:
    """Of 4,000 draws each token's share is within 4 standard errors of its probability; with
    top_p 0.5 nothing is drawn outside the smallest set of tokens that has half the mass."""
    from sharegptvideo.models.sampling import choose

    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1])).expand(4000, 4)
    drawn = torch.from_numpy(np.random.default_rng(0).random(4000))
    plain = choose(logits, SamplingParams(temperature=1.0), drawn)
    shares = torch.bincount(plain, minlength=4) / 4000
    wanted = torch.tensor([0.4, 0.3, 0.2, 0.1])
    assert ((shares - wanted).abs() < 4 * (wanted * (1 - wanted) / 4000).sqrt()).all()
    nucleus = choose(logits, SamplingParams(temperature=1.0, top_p=0.5), drawn)
    shares = torch.bincount(nucleus, minlength=4) / 4000
    assert shares[2:].sum() == 0
    assert abs(shares[0] - 4 / 7) < 4 * (4 / 7 * 3 / 7 / 4000) ** 0.5
    sharp = choose(logits, SamplingParams(temperature=0.5), drawn)
    # At temperature 1/2 probabilities are squared: 0.16 of 0.16 + 0.09 + 0.04 + 0.01.
    assert abs((sharp == 0).float().mean() - 16 / 30) < 0.04


def test_the_tower_sees_each_clip_once(
    model: VideoLlavaModel, items: list[tuple[Frames, str]]
) -> None:
    seen = []
    handle = model.model.model.video_tower.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[0].shape[0])
    )
    try:
        generate(model, items, max_new_tokens=2, temperature=1.0, n=4)
    finally:
        handle.remove()
    assert sum(seen) == 3 * 4, "three clips of four frames"


@pytest.mark.parametrize("sampled", [False, True])
def test_memory_splits_the_questions_and_changes_no_answer(
    model: VideoLlavaModel,
    items: list[tuple[Frames, str]],
    monkeypatch: pytest.MonkeyPatch,
    sampled: bool,
) -> None:
    draw: dict[str, Any] = {"max_new_tokens": 8, "temperature": float(sampled), "seed": 4}
    draw["n"] = 2 if sampled else 1
    whole = generate(model, items, **draw)
    language = model.model.model.language_model
    forward = language.forward
    clips: list[int] = []  # how many were read at once
    rows: list[int] = []  # how many were decoded at once

    def watched(*args: Any, **kwargs: Any) -> Any:
        part, name = (clips, "inputs_embeds") if "inputs_embeds" in kwargs else (rows, "input_ids")
        part.append(len(kwargs[name]))
        if part[-1] > most:
            raise torch.OutOfMemoryError("no room")
        return forward(*args, **kwargs)

    most = 99
    monkeypatch.setattr(language, "forward", watched)
    monkeypatch.setattr(model, "memory_limit", 1)  # by estimate: a question at a time
    assert generate(model, items, **draw) == whole
    assert clips == [1, 1, 1], "one after the other, each once"
    assert max(rows) == draw["n"]

    monkeypatch.setattr(model, "memory_limit", None)
    clips.clear()
    most = 2  # by an error, of nine rows and of three clips
    assert generate(model, items, **draw) == whole
    assert clips == [3, 2, 2], "three were too many; the fifth question is about the second"
    most = 0
    with pytest.raises(UserError, match="no memory for it and one question"):
        generate(model, items[:1], **draw)


def test_a_limit_in_bytes_is_kept(model: VideoLlavaModel) -> None:
    """2 layers × keys and values × 48 numbers × 4 bytes: 768 bytes a token, half of it where two
    heads share; with 0.8 of 100,000 bytes 104 tokens fit, so two rows of 40 of text and 4 of
    answer do: the clip's tokens are held once and counted with no row."""
    from sharegptvideo.models.memory import cache_bytes, coming_cache_bytes, fitting_rows

    cache = model._read_clips(
        {b"x": [model.model.config.video_token_id] * video_token_count(model.model.config, 4)},
        {b"x": torch.zeros(4, 3, 16, 16)},
    )
    heads = model.model.config.text_config.num_key_value_heads
    assert cache_bytes(cache, 1) == 768 * heads // 2
    text_config = model.model.config.text_config
    assert coming_cache_bytes(text_config, 1, model.model.dtype) == 768 * heads // 2
    assert fitting_rows(44 * 768, 100_000) == 2
    assert fitting_rows(44 * 768, 1) == 1
    assert fitting_rows(768, None) is None


def test_room_is_each_prompts_own(model: VideoLlavaModel) -> None:
    """A long prompt's answer is cut at the model's positions; its neighbour's is not."""
    frames = np.random.default_rng(2).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    ids, _ = encode(model.tokenizer, conversation("Red?" * 10))
    more, _ = encode(model.tokenizer, conversation("Red?" * 11))
    each = len(more) - len(ids)
    repeats = 10 + (512 - 19 - len(ids) - 3) // each  # some 3 positions are left
    items = [(frames, "Red?" * repeats), (frames, "Red?")]
    together = generate(model, items, max_new_tokens=40)
    assert together == [generate(model, [item], max_new_tokens=40)[0] for item in items]
    assert len(together[0][0]) < len(together[1][0])


def test_clips_of_different_lengths_go_together(model: VideoLlavaModel) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    items = [(frames[:3], QUESTIONS[0]), (frames, QUESTIONS[0]), (frames[:3], QUESTIONS[1])]
    assert generate(model, items, max_new_tokens=8) == [
        generate(model, [item], max_new_tokens=8)[0] for item in items
    ]


def test_more_frames_than_a_tower_over_time_has_embeddings_for(model: VideoLlavaModel) -> None:
    """The question fails alone; a tower that sees each frame by itself takes any number."""
    frames = np.random.default_rng(1).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    requests = [Request("Red?", frames), Request("Red?", frames[:4])]
    many, few = model.generate(requests, SamplingParams(max_new_tokens=4))
    if model.model.config.model_type == "llava_hound":
        assert many.error == "6 frames, and the model looks at 4 of a clip at most"
    else:
        assert many.error is None
    assert few.error is None


def test_room_and_arguments_are_checked(
    model: VideoLlavaModel, items: list[tuple[Frames, str]]
) -> None:
    long = "Why? " * 600
    requests = [Request(QUESTIONS[0], items[0][0]), Request(long, items[0][0])]
    fitting, refused = model.generate(requests, SamplingParams(max_new_tokens=4))
    assert "leaves no room in 512 positions" in str(refused.error)
    assert [fitting.text] == generate(model, items[:1], max_new_tokens=4)[0]
    for change, message in (
        ({"temperature": -0.1}, "temperature must be at least 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"n": 0}, "n must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            SamplingParams(**change)
    assert generate(model, []) == []


def test_texts_without_a_clip_are_answered_as_transformers_answers_them(
    model: VideoLlavaModel,
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    texts = [Request(question) for question in QUESTIONS]
    mixed = [texts[0], Request(QUESTIONS[0], frames), *texts[1:]]
    params = SamplingParams(max_new_tokens=8)
    answers = [answer.text for answer in model.generate(mixed, params)]
    alone = [next(model.generate([request], params)).text for request in mixed]
    assert answers == alone
    assert answers[0] != answers[1]
    for request, said in zip(texts, [answers[0], *answers[2:]], strict=True):
        ids, _ = encode(model.tokenizer, conversation(request.prompt), "text")
        output = model.model.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False
        )[0, len(ids) :]
        assert model.tokenizer.decode(output, skip_special_tokens=True).strip() == said
    sampled = SamplingParams(n=3, temperature=20.0, max_new_tokens=8, seed=1)
    (drawn,) = model.generate(texts[:1], sampled)
    assert drawn.texts == next(iter(model.generate(mixed, sampled))).texts
    assert len(set(drawn.texts)) > 1
    (long,) = model.generate([Request("red " * 5000)], params)
    assert long.error is not None
    assert "leaves no room" in long.error
