"""A few rendered clips in the release layout, and a model small enough to train in a second."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sharegptvideo._io import write_jsonl
from sharegptvideo.models import build_tiny
from sharegptvideo.training import DpoRecipe, SftRecipe, TrainResult, load_recipe, run_recipe
from tests.support.warm_python import WarmPython

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 200),
    "white": (230, 230, 230),
}


def write_clip(path: Path, colour: tuple[int, int, int], frames: int = 6) -> None:
    """A 48×32 H.264 clip of one colour, a little brighter in every frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(frames):
            picture = np.full((32, 48, 3), colour, dtype=np.uint8) + np.uint8(3 * number)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips with captions, SFT rows and preference pairs, as the release has them."""
    root = tmp_path_factory.mktemp("release")
    train = root / "video_instruction" / "train"
    captions, talks, pairs = [], [], []
    for number, (name, colour) in enumerate(COLOURS.items()):
        stem = f"clip_{name}"
        write_clip(root / "videos" / f"{stem}.mp4", colour)
        caption = f"The whole picture is {name} and grows a little brighter."
        question, answer = "What colour is the picture?", f"It is {name}."
        other = list(COLOURS)[(number + 1) % len(COLOURS)]
        captions.append(talk(stem, f"{stem}_c", "Describe the video.", caption))
        talks.append(talk(stem, f"{stem}_0", question, answer))
        talks.append(talk(stem, f"{stem}_1", f"Is it {name} or {other}?", f"It is {name}, sir."))
        pairs.append(
            {
                "id": f"{stem}_p",
                "video": stem,
                "prompt": question,
                "answer": answer,
                "chosen": answer,
                "chosen_score": 5,
                "rejected": f"It is {other}.",
                "rejected_score": 1,
            }
        )
    write_jsonl(train / "pretrain" / "video_caption_pretrain.jsonl", captions)
    write_jsonl(train / "sft" / "video_240k_caption_15k.jsonl", talks)
    write_jsonl(train / "dpo" / "sft_dpo_17k.jsonl", pairs)
    return root


@pytest.fixture(scope="session")
def paper_release(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release with all of its training files: 300k captions, three files about images."""
    root = tmp_path_factory.mktemp("paper") / "release"
    shutil.copytree(release, root)
    train = root / "video_instruction" / "train"
    talks = train / "sft" / "video_240k_caption_15k.jsonl"
    lines = talks.read_text().splitlines()
    captions = [line.replace('_0"', '_caption"') for line in lines[::2]]
    talks.with_name("video_caption_300k.jsonl").write_text("\n".join(captions) + "\n")
    images = []
    for name, colour in COLOURS.items():
        path = f"allava_laion/images/{name}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(root / path)
        row = talk("", f"{name}_i", "What colour is the picture?", f"It is {name}.")
        turns: Any = row["conversations"]
        turns[0]["value"] = turns[0]["value"].replace("<video>", "<image>")
        del row["video"]
        images.append(row | {"image": path})
    for file in ("pretrain/image_caption_pretrain", "sft/image_instruction_600k"):
        write_jsonl(train / f"{file}.jsonl", images)
    write_jsonl(train / "sft" / "image_instruction_100k.jsonl", images)
    return root


def talk(video: str, key: str, question: str, answer: str) -> dict[str, object]:
    return {
        "id": key,
        "video": video,
        "conversations": [
            {"from": "human", "value": f"<video>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }


TEXTS = [
    "What colour is the picture? It is red. It is green. It is blue. It is white.",
    "Describe the video. The whole picture is red and grows a little brighter.",
    "Is it red or green? It is green, sir. Is it blue or white?",
] * 3


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the smallest size: 4 frames of 16×16, 20 video tokens."""
    return build_tiny(TEXTS, tmp_path_factory.mktemp("tiny") / "model", seed=3, size="tiny")


@pytest.fixture(name="talk")
def _talk() -> Callable[[str, str, str, str], dict[str, object]]:
    return talk


@pytest.fixture
def colours() -> dict[str, tuple[int, int, int]]:
    return COLOURS


@pytest.fixture
def change() -> Callable[..., Any]:
    """`change(recipe, field=value)`: a recipe with fields changed; a dict changes those below."""

    def changed(recipe: Any, **fields: Any) -> Any:
        update = {
            key: getattr(recipe, key).model_copy(update=value) if isinstance(value, dict) else value
            for key, value in fields.items()
        }
        return recipe.model_copy(update=update)

    return changed


SHORT = (
    "frames=4",
    "optimisation.per_device_batch_size=2",
    "optimisation.max_length=128",
    "log_every=1",
    "data.split=train+validation",
)


def _sft(release: Path, tiny: Path, output: Path) -> SftRecipe:
    recipe = load_recipe("demo/sft", [*common(release, tiny, output), *SHORT])
    assert isinstance(recipe, SftRecipe)
    return recipe


def _dpo(release: Path, tiny: Path, output: Path) -> DpoRecipe:
    plain = "dpo.sft_weight=0"
    recipe = load_recipe("demo/dpo", [*common(release, tiny, output), *SHORT, plain])
    assert isinstance(recipe, DpoRecipe)
    return recipe


@pytest.fixture
def sft_recipe(release: Path, tiny: Path, tmp_path: Path) -> SftRecipe:
    """Six steps of SFT on the eight rows, towers and all."""
    return _sft(release, tiny, tmp_path / "sft")


@pytest.fixture
def dpo_recipe(release: Path, tiny: Path, tmp_path: Path) -> DpoRecipe:
    """Six steps of plain DPO on the four pairs, towers and projector frozen."""
    return _dpo(release, tiny, tmp_path / "dpo")


@pytest.fixture(scope="session")
def sft_run(
    release: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SftRecipe, TrainResult]:
    """The training of `sft_recipe`, finished: for tests that only read it."""
    recipe = _sft(release, tiny, tmp_path_factory.mktemp("trained") / "sft")
    return recipe, run_recipe(recipe)


@pytest.fixture(scope="session")
def dpo_run(
    release: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DpoRecipe, TrainResult]:
    """The training of `dpo_recipe`, finished: for tests that only read it."""
    recipe = _dpo(release, tiny, tmp_path_factory.mktemp("trained") / "dpo")
    return recipe, run_recipe(recipe)


@pytest.fixture
def pointed_at(release: Path, tiny: Path) -> Callable[..., list[str]]:
    """`pointed_at(output, steps=n)`: overrides that let any shipped recipe run here."""

    def overrides(output: Path, steps: int) -> list[str]:
        return common(release, tiny, output, steps)

    return overrides


def common(release: Path, model: Path, output: Path, steps: int = 6) -> list[str]:
    """Overrides that point a recipe at the fixtures and stop it after `steps`."""
    return [
        f"model={model}",
        f"output={output}",
        f"data.data_dir={release}",
        f"data.media={release}",
        "optimisation.epochs=null",
        f"optimisation.max_steps={steps}",
    ]


PICTURES = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture(scope="session")
def both(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release of clips with images of three colours: captions, two questions each, and text."""
    root = tmp_path_factory.mktemp("both") / "release"
    shutil.copytree(release, root)
    train = root / "video_instruction" / "train"
    captions, talks = [], []
    for number, (name, colour) in enumerate(PICTURES.items()):
        image = f"allava_laion/images/{name}.png"
        picture = np.full((40, 24 + 8 * number, 3), colour, dtype=np.uint8)
        picture[:10] = 255  # what is up is seen
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(root / image)
        captions.append(image_talk(image, f"{name}_c", "Describe the image.", f"It is {name}."))
        talks.append(image_talk(image, f"{name}_0", "What colour is it?", f"It is {name}."))
        talks.append(
            image_talk(image, f"{name}_1", "Is it white?", f"It is {name}, and white above.")
        )
    talks.append(image_talk(None, "text_0", "Is white a colour?", "Yes."))
    talks.append(image_talk(None, "text_1", "Is red a colour?", "Yes, it is."))
    write_jsonl(train / "pretrain" / "image_caption_pretrain.jsonl", captions)
    write_jsonl(train / "sft" / "image_instruction_600k.jsonl", talks)
    return root


def image_talk(image: str | None, key: str, question: str, answer: str) -> dict[str, Any]:
    return {
        "id": key,
        **({"image": image} if image else {}),
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}" if image else question},
            {"from": "gpt", "value": answer},
        ],
    }


@pytest.fixture(scope="session")
def hound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hound") / "model"
    return build_tiny(TEXTS, out, seed=1, size="tiny", architecture="llava_hound")


MIXED_PARTS = [{"name": "sft"}, {"name": "image_captions"}, {"name": "captions", "weight": 0.5}]


@pytest.fixture
def mixed(sft_recipe: SftRecipe, both: Path, tmp_path: Path) -> Callable[..., SftRecipe]:
    """`mixed(model, data=…, …)`: all rows of `both`: 10 about clips, 9 about images, 2 of text."""

    def recipe(model: Path, **fields: Any) -> SftRecipe:
        content = sft_recipe.model_dump()
        content |= {"model": str(model), "output": str(tmp_path / "out")}
        content["data"] |= {
            "name": None,
            "mix": MIXED_PARTS,
            "data_dir": str(both),
            "media": str(both),
        }
        content["freeze"] = {"vision_tower": True}
        content["optimisation"]["max_length"] = 256
        for key, value in fields.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        return SftRecipe.model_validate(content)

    return recipe


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """Commands in processes of their own that have the heavy packages imported."""
    server = WarmPython()
    yield server
    server.close()
