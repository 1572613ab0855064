"""`as_trl`: conversations that TRL's own trainers take, as a table and as a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sharegptvideo import as_trl, load_dataset
from sharegptvideo.errors import UserError

Row = dict[str, Any]
Write = Callable[..., Path]

QUESTION = "<video>\nWhat colour is it?"
CLIP = {"type": "video", "video": "clip"}


def text(words: str) -> Row:
    return {"type": "text", "text": words}


def said(role: str, *parts: Row) -> Row:
    return {"role": role, "content": list(parts)}


def turns(*values: str) -> list[Row]:
    sides = ("human", "gpt")
    return [{"from": sides[n % 2], "value": value} for n, value in enumerate(values)]


TALK = {"id": "a", "video": "clip", "conversations": turns(QUESTION, "Red.", "Sure?", "Yes.")}
PAIR = {
    "id": "p",
    "video": "clip",
    "prompt": QUESTION,
    "chosen": "Red.",
    "rejected": "",
    "chosen_score": 5,
    "rejected_score": 1,
}
TALKED = [
    said("user", CLIP, text("What colour is it?")),
    said("assistant", text("Red.")),
    said("user", text("Sure?")),
    said("assistant", text("Yes.")),
]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder with one clip: four frames that grow brighter."""
    folder = tmp_path / "media" / "clip"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (24, 20), (200, 40 * number, 30)).save(folder / f"f_{number}.jpeg")
    return folder.parent


@pytest.mark.parametrize("streaming", [False, True])
def test_sft(release: Path, write: Write, streaming: bool) -> None:
    image = {"id": 7, "image": "coco/1.jpg", "conversations": turns("<image>\nWhat?", "A cat.")}
    neither = {"id": "t", "conversations": turns("Hello?", "Hello.")}
    write("train/sft/a.jsonl", TALK, image, neither)
    view = as_trl(load_dataset("sft", data_dir=release, streaming=streaming))
    assert list(view.features) == ["id", "messages"]
    picture = {"type": "image", "image": "coco/1.jpg"}
    assert list(view) == [
        {"id": "a", "messages": TALKED},
        {
            "id": "7",
            "messages": [said("user", picture, text("What?")), said("assistant", text("A cat."))],
        },
        {
            "id": "t",
            "messages": [said("user", text("Hello?")), said("assistant", text("Hello."))],
        },
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_preferences(release: Path, write: Write, streaming: bool) -> None:
    write("train/dpo/a.jsonl", PAIR)
    view = as_trl(load_dataset("preferences", data_dir=release, streaming=streaming))
    assert list(view) == [
        {
            "id": "p",
            "prompt": [said("user", CLIP, text("What colour is it?"))],
            "chosen": [said("assistant", text("Red."))],
            "rejected": [said("assistant", text(""))],
        }
    ]


def test_captions_and_questions_are_one_exchange(release: Path, write: Write) -> None:
    row = {"id": "a", "video": "clip", "conversations": turns(QUESTION, "Red.")}
    write("train/qa/a.jsonl", row)
    write("train/pretrain/video_caption_pretrain.jsonl", row)
    for name in ("qa", "captions"):
        assert list(as_trl(load_dataset(name, data_dir=release))["messages"]) == [TALKED[:2]]


@pytest.mark.filterwarnings("ignore:1 video not found")
@pytest.mark.parametrize("streaming", [False, True])
def test_media_gives_the_path_and_a_missing_clip_is_one_line(
    release: Path, write: Write, media: Path, streaming: bool
) -> None:
    write("train/sft/a.jsonl", TALK)
    view = as_trl(load_dataset("sft", data_dir=release, media=media, streaming=streaming))
    part = next(iter(view))["messages"][0]["content"][0]
    assert part == {"type": "video", "video": str(media / "clip")}

    write("train/sft/a.jsonl", {**TALK, "video": "gone"})
    rows = load_dataset("sft", data_dir=release, media=media, streaming=streaming)
    with pytest.raises(UserError, match="row a: no video 'gone' under media=; load with require"):
        list(as_trl(rows))


@pytest.mark.parametrize("streaming", [False, True])
def test_every_split_at_once_and_a_split_without_rows(
    release: Path, write: Write, streaming: bool
) -> None:
    write("train/sft/a.jsonl", TALK)
    import sharegptvideo  # noqa: F401 - registers the name

    loaded = datasets.load_dataset(
        "sharegptvideo", "sft", data_dir=str(release), streaming=streaming
    )
    views = as_trl(loaded)
    assert type(views) is type(loaded)
    assert [len(list(views[split])) for split in ("train", "validation")] == [1, 0]
    assert views["train"].features == views["validation"].features


@pytest.mark.parametrize("streaming", [False, True])
def test_a_clip_within_the_row_stays(release: Path, write: Write, streaming: bool) -> None:
    write("train/sft/a.jsonl", TALK)
    clip = {"bytes": b"a clip", "path": None}
    published = load_dataset("sft", data_dir=release).add_column(
        "clip", [clip], feature=datasets.Video(decode=False)
    )
    rows = published.to_iterable_dataset() if streaming else published
    view = as_trl(rows)
    assert list(view.features) == ["id", "messages", "clip"]
    assert list(view) == [{"id": "a", "messages": TALKED, "clip": clip}]


def test_a_clip_within_the_row_is_not_decoded_on_the_way(release: Path, write: Write) -> None:
    write("train/sft/a.jsonl", TALK)
    clip = {"bytes": b"no video at all", "path": None}
    published = load_dataset("sft", data_dir=release).add_column(
        "clip", [clip], feature=datasets.Video()
    )
    view = as_trl(published)
    assert view.features["clip"] == datasets.Video()
    assert view.cast_column("clip", datasets.Video(decode=False))[0]["clip"] == clip


def test_columns_of_no_training_set(release: Path, write: Write) -> None:
    row = {"id": "a", "video": "clip", "question": "Q?", "answer": "A"}
    write("test/msvd.qa.jsonl", row)
    with pytest.raises(UserError, match="a test set is not for training; take sft"):
        as_trl(load_dataset("msvd_qa", "test", data_dir=release))
    with pytest.raises(UserError, match="columns text are those of no training set"):
        as_trl(datasets.Dataset.from_dict({"text": ["x"]}))


@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=2))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_through_unchanged(texts: list[str]) -> None:
    rows = {
        "id": ["a"],
        "video": [None],
        "image": [None],
        "messages": [
            [
                {"role": "user", "content": texts[0]},
                {"role": "assistant", "content": texts[1]},
            ]
        ],
    }
    messages = as_trl(datasets.Dataset.from_dict(rows))[0]["messages"]
    assert messages == [said("user", text(texts[0])), said("assistant", text(texts[1]))]


def test_templates_that_look_for_a_key_find_one_clip(release: Path, write: Write) -> None:
    """Templates of the Qwen family take every part that has a key `video` for a clip."""
    from jinja2 import Template

    write("train/sft/a.jsonl", TALK)
    template = Template(
        "{% for m in messages %}{% for p in m.content %}"
        "{% if p.type == 'video' or 'video' in p %}<clip>{% else %}{{ p.text }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    (row,) = as_trl(load_dataset("sft", data_dir=release))
    assert template.render(row) == "<clip>What colour is it?Red.Sure?Yes."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sharegptvideo.models import build_tiny

    texts = ["What colour is it? Red. Sure? Yes. Blue."] * 3
    return build_tiny(texts, tmp_path_factory.mktemp("tiny") / "model", seed=3, size="tiny")


@pytest.fixture
def options(tmp_path: Path) -> Row:
    """Settings of a trainer that takes one step here."""
    return {
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "max_length": 128,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def model_of(folder: Path) -> Any:
    from transformers import VideoLlavaForConditionalGeneration

    return VideoLlavaForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_trl_prepares_and_trains_on_sft(
    release: Path, write: Write, tiny: Path, options: Row, streaming: bool
) -> None:
    from trl import SFTConfig, SFTTrainer

    from sharegptvideo.models import load_tokenizer

    write("train/sft/a.jsonl", TALK, {**TALK, "id": "b"})
    tokenizer = load_tokenizer(str(tiny))
    trainer = SFTTrainer(
        model=model_of(tiny),
        args=SFTConfig(**options),
        train_dataset=as_trl(load_dataset("sft", data_dir=release, streaming=streaming)),
        processing_class=tokenizer,
    )
    ids = next(iter(trainer.train_dataset))["input_ids"]
    assert tokenizer.decode(ids) == (
        "USER: <video>\nWhat colour is it? ASSISTANT: Red.</s>USER: Sure? ASSISTANT: Yes.</s>"
    )
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize("streaming", [False, True])
def test_trl_prepares_and_trains_on_preferences(
    release: Path, write: Write, tiny: Path, options: Row, streaming: bool
) -> None:
    from trl import DPOConfig, DPOTrainer

    from sharegptvideo.models import load_tokenizer

    write("train/dpo/a.jsonl", PAIR, {**PAIR, "id": "q", "rejected": "Blue."})
    tokenizer = load_tokenizer(str(tiny))
    trainer = DPOTrainer(
        model=model_of(tiny),
        args=DPOConfig(**options),
        train_dataset=as_trl(load_dataset("preferences", data_dir=release, streaming=streaming)),
        processing_class=tokenizer,
    )
    first, second = list(trainer.train_dataset)
    sides = ("prompt_ids", "chosen_ids", "rejected_ids")
    prompt = "USER: <video>\nWhat colour is it? ASSISTANT:"
    assert [tokenizer.decode(first[side]) for side in sides] == [prompt, " Red.</s>", " </s>"]
    assert tokenizer.decode(second["rejected_ids"]) == " Blue.</s>"
    # Policy and reference are the same before the first step: the loss is ln 2.
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-4)


@pytest.mark.parametrize("streaming", [False, True])
def test_pixels_by_a_collator_of_ones_own(
    release: Path, write: Write, media: Path, tiny: Path, options: Row, streaming: bool
) -> None:
    """The way that `as_trl` documents: TRL leaves the rows alone, the collator opens the clips."""
    import torch
    from trl import SFTConfig, SFTTrainer

    from sharegptvideo.media import sample_frames
    from sharegptvideo.models import VideoPixels, load_tokenizer

    write("train/sft/a.jsonl", TALK, {**TALK, "id": "b"})
    tokenizer = load_tokenizer(str(tiny))
    pixels = VideoPixels.from_pretrained(str(tiny))
    model = model_of(tiny)
    batches: list[Row] = []

    def collate(rows: list[Row]) -> Row:
        talks = [row["messages"] for row in rows]
        texts = [tokenizer.apply_chat_template(talk, tokenize=False) for talk in talks]
        # 4 frames of 4 patches and a class token each.
        ids = tokenizer([t.replace("<video>", "<video>" * 20) for t in texts], return_tensors="pt")
        clips = [sample_frames(talk[0]["content"][0]["video"], 4).frames for talk in talks]
        videos = torch.stack([pixels(clip) for clip in clips])
        batches.append({**ids, "labels": ids["input_ids"], "pixel_values_videos": videos})
        return batches[-1]

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **options, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True}
        ),
        train_dataset=as_trl(
            load_dataset("sft", data_dir=release, media=media, streaming=streaming)
        ),
        processing_class=tokenizer,
        data_collator=collate,
    )
    assert trainer.train().training_loss > 0
    assert batches[0]["pixel_values_videos"].shape == (2, 4, 3, 16, 16)
    assert (batches[0]["input_ids"] == model.config.video_token_index).sum(1).tolist() == [20, 20]
