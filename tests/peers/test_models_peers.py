"""Video models of eight architectures: answers on a shared cache are those of plain `generate`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.media.facts import read_facts
from sharegptvideo.models import (
    AnswerSettings,
    ProcessorModel,
    Question,
    Request,
    SamplingParams,
    open_model,
)
from sharegptvideo.models.pixels import Frames
from tests.support.pretended_gpu import with_graphs
from tests.support.tiny_video_models import ARCHITECTURES, build

pytestmark = pytest.mark.peers
pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")

QUESTIONS = (
    "What colour is it?",
    "Is there a dog in the snow at the end of the video, and who falls?",
    "Red?",
    "What happens?",
)
INDICES = [0, 5, 11, 17, 23, 29, 35, 40]
STEPS = 12


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("peers") / request.param)


@pytest.fixture(scope="session")
def clips() -> list[Frames]:
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 256, (8, 48, 64, 3), dtype=np.uint8) for _ in range(2)]


def plain(model: ProcessorModel, frames: Frames, question: str, fps: float) -> list[int]:
    """One question as transformers' own documents ask it, without a line of ours."""
    from transformers.video_utils import VideoMetadata

    processor = model.processor
    content = [{"type": "video"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    metadata = VideoMetadata(
        total_num_frames=41, fps=fps, duration=41 / fps, frames_indices=[*INDICES]
    )
    inputs = processor(
        text=[text],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
    )
    with torch.inference_mode():
        output = model.model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    ids: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
    return ids


def token_ids(model: ProcessorModel, frames: Frames, **params: Any) -> list[list[list[int]]]:
    """The ids of all answers to QUESTIONS on a clip of ten frames a second."""
    requests = {
        number: Request(text, frames, INDICES, fps=10.0) for number, text in enumerate(QUESTIONS)
    }
    prompts: list[Any] = [prompt for _, prompt in model._prompts(requests)]
    with torch.inference_mode():
        answers = model._token_ids(prompts, SamplingParams(max_new_tokens=STEPS, **params))
        made = {prompt.number: ids for prompt, ids in answers}
    return [made[number] for number in range(len(QUESTIONS))]


def greedy_ids(model: ProcessorModel, frames: Frames) -> list[list[int]]:
    return [ids for (ids,) in token_ids(model, frames)]


def test_answers_on_a_shared_cache_are_those_of_plain_generate(
    checkpoint: Path, clips: list[Frames]
) -> None:
    model = ProcessorModel(str(checkpoint))
    assert model.shares
    seen = set()
    for frames in clips:
        together = greedy_ids(model, frames)
        assert together == [plain(model, frames, question, 10.0) for question in QUESTIONS]
        seen |= {tuple(ids) for ids in together}
        model.shares = False
        alone = greedy_ids(model, frames)
        model.shares = True
        assert together == alone
    assert len(seen) >= 6, "the test needs answers that differ with clip and question"


def test_a_clip_is_seen_once_and_memory_only_splits_the_questions(
    checkpoint: Path, clips: list[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ProcessorModel(str(checkpoint))
    calls: list[tuple[int, bool]] = []
    forward = model.model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        pixels = any(
            name.startswith("pixel_values") for name, value in kwargs.items() if value is not None
        )
        calls.append((len(kwargs["input_ids"]), pixels))
        if len(kwargs["input_ids"]) > most:
            raise torch.OutOfMemoryError("no room")
        return forward(*args, **kwargs)

    most = 9
    monkeypatch.setattr(model.model, "forward", watched)
    # `generate` asks what forward takes by its signature.
    watched.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    whole = greedy_ids(model, clips[0])
    assert sum(pixels for _, pixels in calls) == 1, "the clip is seen once"
    assert max(rows for rows, _ in calls) == len(QUESTIONS), "the questions go together"

    calls.clear()
    model.memory_limit = 1  # by estimate: one question at a time
    assert greedy_ids(model, clips[0]) == whole
    assert max(rows for rows, _ in calls) == 1
    assert sum(pixels for _, pixels in calls) == 1

    calls.clear()
    model.memory_limit, most = None, 2  # by an error of the device
    assert greedy_ids(model, clips[0]) == whole
    assert {rows for rows, _ in calls} == {1, 2, 4}
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        greedy_ids(model, clips[0])


def test_a_draw_depends_on_seed_clip_and_question_alone(
    checkpoint: Path, clips: list[Frames]
) -> None:
    """In any batch, on a shared cache or without one; greedy answers ignore the seed."""
    model = ProcessorModel(str(checkpoint))
    draw = {"n": 3, "temperature": 1.0, "top_p": 0.95}
    drawn = token_ids(model, clips[0], seed=1, **draw)
    assert [len(answers) for answers in drawn] == [3] * len(QUESTIONS)
    assert len({tuple(ids) for answers in drawn for ids in answers}) > 6
    model.batch_size = 3
    assert token_ids(model, clips[0], seed=1, **draw) == drawn
    assert token_ids(model, clips[0], seed=2, **draw) != drawn
    assert token_ids(model, clips[1], seed=1, **draw) != drawn
    model.shares = False
    assert token_ids(model, clips[0], seed=1, **draw) == drawn
    model.shares = True
    assert token_ids(model, clips[0], n=2) == [[ids] * 2 for ids in greedy_ids(model, clips[0])]


def test_answers_in_slots_are_those_in_batches(
    checkpoint: Path, clips: list[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips of unlike sizes, and so, in some models, of unlike lengths; fewer rows than prompts.

    Steps are captured, as on a GPU: nothing in them waits, and tensors stay where they are.
    """
    graphs = with_graphs(monkeypatch)
    wide = np.concatenate([clips[1], clips[0]], axis=2)
    asked = [(clips[0], 4), (wide, 2), (clips[1], 3)]
    requests = [
        Request(text, frames, INDICES, fps=10.0)
        for frames, count in asked
        for text in QUESTIONS[:count]
    ]
    model = ProcessorModel(str(checkpoint))
    for draw in ({}, {"n": 2, "temperature": 1.0, "top_p": 0.9, "seed": 3}):
        params = SamplingParams(max_new_tokens=STEPS, **draw)  # type: ignore[arg-type]
        model.in_slots, model.batch_size = False, None
        expected = [answer.texts for answer in model.generate(requests, params)]
        assert len({text for texts in expected for text in texts}) > 4
        model.in_slots = True
        model.decoder.captured = True
        for rows in (None, 4):
            model.batch_size = rows
            assert [answer.texts for answer in model.generate(requests, params)] == expected
            assert graphs[-1].replays


def test_options_are_scored_as_in_rows_of_their_own(checkpoint: Path, clips: list[Frames]) -> None:
    """The mean log-probability of an option's tokens after the prompt, by transformers' forward."""
    from transformers.video_utils import VideoMetadata

    model = ProcessorModel(str(checkpoint))
    if not model.scores_options:
        pytest.skip(f"{checkpoint.name}: questions do not share a clip's cache")
    options = ("red", "Two people play in the snow.", "He falls.")
    requests = [
        Request(question, frames, INDICES, fps=10.0, options=options)
        for frames in clips
        for question in QUESTIONS[:2]
    ]
    for request, answer in zip(requests, model.generate(requests, SamplingParams()), strict=True):
        assert answer.error is None
        assert request.frames is not None
        means = []
        for option in options:
            content = [{"type": "video"}, {"type": "text", "text": request.prompt}]
            text = model.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            after = option if text.endswith("\n") else f" {option}"  # as a template writes a turn
            own = model.tokenizer(after, add_special_tokens=False)["input_ids"]
            metadata = VideoMetadata(
                total_num_frames=41, fps=10.0, duration=4.1, frames_indices=[*INDICES]
            )
            inputs = model.processor(
                text=[text + after],
                videos=[torch.from_numpy(request.frames).permute(0, 3, 1, 2)],
                video_metadata=[metadata],
                do_sample_frames=False,
                return_tensors="pt",
            )
            assert inputs["input_ids"][0, -len(own) :].tolist() == own
            with torch.inference_mode():
                logits = model.model(**inputs).logits[0, -len(own) - 1 : -1].log_softmax(-1)
            means.append(float(logits.gather(-1, torch.tensor(own)[:, None]).mean()))
        assert answer.option_scores == pytest.approx(means, abs=1e-4)
        assert answer.texts == (options[means.index(max(means))],)


def test_a_repetition_penalty_of_the_checkpoint_holds(tmp_path: Path, clips: list[Frames]) -> None:
    folder = build("qwen2_5_vl", tmp_path / "penalty", repetition_penalty=1.5)
    model = ProcessorModel(str(folder))
    with_it = greedy_ids(model, clips[0])
    assert with_it == [plain(model, clips[0], question, 10.0) for question in QUESTIONS]
    model.model.generation_config.repetition_penalty = 1.0
    assert with_it != greedy_ids(model, clips[0])


@pytest.mark.parametrize("settings", [{"window": 24}, {"no_repeat_ngram_size": 2}], ids=str)
def test_where_a_cache_cannot_be_shared_questions_are_asked_one_by_one(
    tmp_path: Path, clips: list[Frames], settings: dict[str, int]
) -> None:
    """A window of the last tokens would count padding; so would a rule about their order."""
    folder = build("llava_onevision", tmp_path / "alone", **settings)
    opened = open_model(f"hf:{folder}")
    assert opened.describe()["clip"] == "read for each question"
    model = ProcessorModel(str(folder))
    assert not model.shares
    found = greedy_ids(model, clips[0])
    assert found == [plain(model, clips[0], question, 10.0) for question in QUESTIONS]
    if "window" in settings:
        model.shares = True
        with pytest.raises(ValueError, match="cannot be shared"):
            greedy_ids(model, clips[0])


@pytest.mark.parametrize("name", ["qwen3_vl", "smolvlm"])  # they write times into the prompt
def test_the_adapter_on_real_clips(name: str, shared_data: Path, tmp_path: Path) -> None:
    checkpoint = build(name, tmp_path / name)
    model = open_model(f"hf:{checkpoint}", batch_size=3)
    described = model.describe()
    assert described["clip"] == "read once for its questions"
    assert described["architecture"] == checkpoint.name
    assert QUESTIONS[0] in model.render(QUESTIONS[0])
    requests = []
    for path in sorted((shared_data / "videos").iterdir())[:2]:
        frames, indices = sample_frames(path, 8)
        for number, text in enumerate((*QUESTIONS, "What is <video> <|im_end|> here?")):
            asked = Question(str(number), "t", path.stem, text, "a", video_path=str(path))
            requests.append(Request(text, frames, [int(i) for i in indices], asked))
    params = SamplingParams(max_new_tokens=STEPS)
    answers = list(model.generate(requests, params))
    direct = ProcessorModel(str(checkpoint))
    for position, request in enumerate(requests):
        if "<video>" in request.prompt:
            assert "may not hold the model's own mark" in str(answers[position].error)
            continue
        assert request.frames is not None
        assert request.indices is not None
        assert request.question is not None
        fps = read_facts(Path(str(request.question.video_path))).fps
        one = Request(request.prompt, request.frames, request.indices, fps=fps)
        (alone,) = direct.generate([one], params)
        assert answers[position].text == alone.text


def test_times_go_into_the_prompt(tmp_path: Path, clips: list[Frames]) -> None:
    """Qwen3-VL writes the mean time of each pair of frames: (0/10 + 5/10) / 2, and so on."""
    folder = build("qwen3_vl", tmp_path / "times")
    model = ProcessorModel(str(folder))
    request = Request("?", clips[0], INDICES, fps=10.0)
    prompt: Any = next(model._prompts({0: request}))[1]
    text = model.processor.tokenizer.decode(prompt.ids)
    assert [part.split(" seconds")[0] for part in text.split("<") if " seconds" in part] == [
        "0.2",
        "1.4",
        "2.6",
        "3.8",
    ]


def test_what_cannot_be_asked_is_one_line(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=9,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="'llama' gives no answers about videos"):
        open_model(f"hf:{tmp_path / 'text'}")
    folder = build("llava_onevision", tmp_path / "mute")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        open_model(f"hf:{folder}")


def test_settings_beside_the_task_are_obeyed(checkpoint: Path, clips: list[Frames]) -> None:
    """A system text as transformers renders it, its repetition penalty, and pixels of a frame."""
    spec, params = f"hf:{checkpoint}", SamplingParams(max_new_tokens=STEPS, repetition_penalty=1.5)
    model: Any = open_model(spec, settings=AnswerSettings(system="Be brief."))
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Red?"}]}
    first = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    expected = model.processor.apply_chat_template(
        [first, turn], add_generation_prompt=True, tokenize=False
    )
    assert model.render("Red?") == expected
    assert model.describe()["system"] == "Be brief."

    model = ProcessorModel(str(checkpoint))
    penalised = token_ids(model, clips[0], repetition_penalty=1.5)
    model.model.generation_config.repetition_penalty = 1.5
    assert penalised == [[plain(model, clips[0], question, 10.0)] for question in QUESTIONS]
    model.model.generation_config.repetition_penalty = 1.0
    assert penalised != token_ids(model, clips[0])

    if "max_pixels" not in model.obeys:
        with pytest.raises(UserError, match="cannot obey --max-pixels; takes --dtype, --frames"):
            open_model(spec, settings=AnswerSettings(max_pixels=1))
        return
    large = np.tile(clips[0][:2], (1, 2, 2, 1))  # 96×128
    grids = {}
    for most in (None, 256):
        model = open_model(spec, settings=AnswerSettings(max_pixels=most))
        prompt: Any = next(model._prompts({0: Request("Red?", large, INDICES[:2], fps=10.0)}))[1]
        (grid,) = prompt.inputs["video_grid_thw"].tolist()
        grids[most] = grid[1] * grid[2] * model.processor.video_processor.patch_size**2
    assert grids[None] > 256 >= grids[256] > 0
    (answer,) = model.generate([Request("Red?", large, INDICES[:2], fps=10.0)], params)
    assert answer.error is None
