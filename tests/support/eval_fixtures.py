"""A small release with real (tiny) clips, and a model that counts how often it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharegptvideo._io import write_jsonl

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255)}
NAMES = {"a": "red", "b": "green", "c": "blue"}


@dataclass
class SmallRelease:
    """Three clips of one colour, two questions each; `folder` holds rows and clips."""

    folder: Path

    @property
    def clips(self) -> Path:
        return self.folder / "test" / "msvd"


def write_clip(folder: Path, colour: tuple[int, int, int]) -> None:
    """Ten frames of one colour, as the release keeps them."""
    folder.mkdir(parents=True)
    for number in range(1, 11):
        frame = np.full((24, 32, 3), colour, dtype=np.uint8)
        Image.fromarray(frame).save(folder / f"c01_{number:04d}.png")


def task_row(
    row_id: str, video: str, question: str, answer: str, caption: str
) -> dict[str, object]:
    """One row of a test file as the release writes it."""
    return {
        "id": row_id,
        "video": video,
        "caption": caption,
        "conversations": [
            {"from": "human", "value": f"<video>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }


@pytest.fixture
def small_release(tmp_path: Path) -> SmallRelease:
    """`msvd.qa.jsonl` with six questions about three clips."""
    folder = tmp_path / "release"
    rows = []
    for stem, colour in COLOURS.items():
        write_clip(folder / "test" / "msvd" / stem, colour)
        caption = f"The whole picture is {NAMES[stem]} from beginning to end."
        video = f"test/msvd/{stem}"
        rows.append(task_row(f"{stem}_0", video, "What colour fills it?", NAMES[stem], caption))
        rows.append(task_row(f"{stem}_1", video, "Is it red?", _yes(stem == "a"), caption))
    write_jsonl(folder / "video_instruction" / "test" / "msvd.qa.jsonl", rows)
    return SmallRelease(folder)


def _yes(right: bool) -> str:
    return "yes" if right else "no"


_MODULE = '''
import json
from pathlib import Path

HERE = Path(__file__).parent

def answer(frames, question):
    """Names the colour of the first pixel; says yes to everything else."""
    settings = json.loads((HERE / "settings.json").read_text())
    with (HERE / "calls.txt").open("a") as file:
        file.write(f"{len(frames)} {question}\\n")
    calls = len((HERE / "calls.txt").read_text().splitlines())
    if calls == settings.get("interrupt_at"):
        raise KeyboardInterrupt
    if question in settings.get("fails", []):
        raise RuntimeError("no idea")
    if question.startswith("What"):
        return ["red", "green", "blue"][int(frames[0][0, 0].argmax())]
    return "yes"
'''


@dataclass
class CountingModel:
    """A `python:` model in a folder of its own; `calls` are the questions it was asked."""

    folder: Path
    spec: str

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls.txt"
        return file.read_text().splitlines() if file.exists() else []

    def set(self, **settings: object) -> None:
        (self.folder / "settings.json").write_text(json.dumps(settings))


@pytest.fixture
def make_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], CountingModel]]:
    """Write a counting model under a name of its own and make it importable."""

    def make(name: str) -> CountingModel:
        folder = tmp_path / name
        folder.mkdir()
        module = f"{name}_{abs(hash(str(tmp_path)))}"
        (folder / f"{module}.py").write_text(_MODULE)
        monkeypatch.syspath_prepend(str(folder))
        model = CountingModel(folder, f"python:{module}:answer")
        model.set()
        return model

    return make


@pytest.fixture
def model(make_model: Callable[[str], CountingModel]) -> CountingModel:
    """One counting model: right on every colour, wrong on two of three yes/no questions."""
    return make_model("counting")
