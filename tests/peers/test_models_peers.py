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
from sharegptvideo.models import ClipTimes, GeneralVideoModel, Question, Request, open_model
from sharegptvideo.models.pixels import Frames
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


def plain(model: GeneralVideoModel, frames: Frames, question: str, fps: float) -> list[int]:
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


def test_answers_on_a_shared_cache_are_those_of_plain_generate(
    checkpoint: Path, clips: list[Frames]
) -> None:
    model = GeneralVideoModel.from_pretrained(str(checkpoint))
    assert model.shares
    seen = set()
    for frames in clips:
        times = ClipTimes(INDICES, 10.0)
        together = model.generate_ids(frames, QUESTIONS, times=times, max_new_tokens=STEPS)
        assert together == [plain(model, frames, question, 10.0) for question in QUESTIONS]
        seen |= {tuple(ids) for ids in together}
        model.shares = False
        alone = model.generate_ids(frames, QUESTIONS, times=times, max_new_tokens=STEPS)
        model.shares = True
        assert together == alone
    assert len(seen) >= 6, "the test needs answers that differ with clip and question"


def test_a_clip_is_seen_once_and_memory_only_splits_the_questions(
    checkpoint: Path, clips: list[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = GeneralVideoModel.from_pretrained(str(checkpoint))
    times = ClipTimes(INDICES, 10.0)
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
    whole = model.generate_ids(clips[0], QUESTIONS, times=times, max_new_tokens=STEPS)
    assert sum(pixels for _, pixels in calls) == 1, "the clip is seen once"
    assert max(rows for rows, _ in calls) == len(QUESTIONS), "the questions go together"

    calls.clear()
    model.memory_limit = 1  # by estimate: one question at a time
    assert model.generate_ids(clips[0], QUESTIONS, times=times, max_new_tokens=STEPS) == whole
    assert max(rows for rows, _ in calls) == 1
    assert sum(pixels for _, pixels in calls) == 1

    calls.clear()
    model.memory_limit, most = None, 2  # by an error of the device
    assert model.generate_ids(clips[0], QUESTIONS, times=times, max_new_tokens=STEPS) == whole
    assert {rows for rows, _ in calls} == {1, 2, 4}
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        model.generate_ids(clips[0], QUESTIONS, times=times, max_new_tokens=STEPS)


def test_a_repetition_penalty_of_the_checkpoint_holds(tmp_path: Path, clips: list[Frames]) -> None:
    folder = build("qwen2_5_vl", tmp_path / "penalty", repetition_penalty=1.5)
    model = GeneralVideoModel.from_pretrained(str(folder))
    with_it = model.generate_ids(
        clips[0], QUESTIONS, times=ClipTimes(INDICES, 10.0), max_new_tokens=STEPS
    )
    assert with_it == [plain(model, clips[0], question, 10.0) for question in QUESTIONS]
    model.model.generation_config.repetition_penalty = 1.0
    assert with_it != model.generate_ids(
        clips[0], QUESTIONS, times=ClipTimes(INDICES, 10.0), max_new_tokens=STEPS
    )


@pytest.mark.parametrize("settings", [{"window": 24}, {"no_repeat_ngram_size": 2}], ids=str)
def test_where_a_cache_cannot_be_shared_questions_are_asked_one_by_one(
    tmp_path: Path, clips: list[Frames], settings: dict[str, int]
) -> None:
    """A window of the last tokens would count padding; so would a rule about their order."""
    folder = build("llava_onevision", tmp_path / "alone", **settings)
    opened = open_model(f"hf:{folder}")
    assert opened.describe()["clip"] == "read for each question"
    model = GeneralVideoModel.from_pretrained(str(folder))
    assert not model.shares
    times = ClipTimes(INDICES, 10.0)
    found = model.generate_ids(clips[0], QUESTIONS, times=times, max_new_tokens=STEPS)
    assert found == [plain(model, clips[0], question, 10.0) for question in QUESTIONS]
    if "window" in settings:
        model.shares = True
        with pytest.raises(ValueError, match="cannot be shared"):
            model.generate_ids(clips[0], QUESTIONS, times=times, max_new_tokens=STEPS)


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
            requests.append(Request(asked, text, frames, [int(i) for i in indices]))
    answers = dict(model.answer(requests, max_new_tokens=STEPS))
    direct = GeneralVideoModel.from_pretrained(str(checkpoint))
    for position, request in enumerate(requests):
        if "<video>" in request.prompt:
            assert "may not hold the model's own mark" in str(answers[position].error)
            continue
        assert request.frames is not None
        assert request.indices is not None
        fps = read_facts(Path(str(request.question.video_path))).fps
        times = ClipTimes(request.indices, fps)
        alone = direct.generate(request.frames, [request.prompt], times=times, max_new_tokens=STEPS)
        assert answers[position].text == alone[0]


def test_times_go_into_the_prompt(tmp_path: Path, clips: list[Frames]) -> None:
    """Qwen3-VL writes the mean time of each pair of frames: (0/10 + 5/10) / 2, and so on."""
    folder = build("qwen3_vl", tmp_path / "times")
    model = GeneralVideoModel.from_pretrained(str(folder))
    prompt = next(model._prompts(clips[0], ["?"], ClipTimes(INDICES, 10.0)))
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
