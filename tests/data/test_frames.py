"""`frames=`: decoded frames in the rows, as they are read, in tables, streams and workers."""

from __future__ import annotations

import gc
import importlib.util
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import numpy as np
import pytest

from sharegptvideo import load_dataset
from sharegptvideo.data.frames import ClipFrames
from sharegptvideo.data.sources import DataWarning
from sharegptvideo.errors import MediaWarning, UserError
from sharegptvideo.media import sample_frames
from tests.media.conftest import write_clip as write_clip
from tests.support.media_trees import frames as pictures

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")

SHOWN = ["id", "question", "frames"]


@pytest.fixture
def media(tmp_path: Path, write_clip: Any) -> Path:
    """Clips 1 and 3 to 5 of one size, 2 not there, 6 that is no video."""
    folder = tmp_path / "media"
    folder.mkdir()
    for number in (1, 3, 4, 5):
        write_clip(folder / f"clip_{number}.mp4", 10 + number, size=(64, 48))
    (folder / "clip_6.mp4").write_bytes(b"no video")
    gc.collect()  # what an encoder leaves waits for threads that a forked worker does not have
    return folder


@pytest.fixture
def rows(release: Path, write: Write, qa_row: Row) -> Path:
    write("train/qa/a.jsonl", *(qa_row(number) for number in range(1, 7)))
    (release / "splits.json").write_text('{"validation": []}')
    return release


def expected(media: Path, number: int, n: int = 8) -> Any:
    return sample_frames(media / f"clip_{number}.mp4", n).frames


@pytest.mark.parametrize("streaming", [False, True])
def test_frames_are_the_evaluations_own(rows: Path, media: Path, streaming: bool) -> None:
    loaded = load_dataset("qa", data_dir=rows, media=media, frames=8, streaming=streaming)
    assert loaded.features["frames"] == ClipFrames(8)
    with pytest.warns(MediaWarning) as caught:
        frames = {row["id"]: row["frames"] for row in loaded}
    for number in (1, 3, 4, 5):
        assert (frames[f"q{number}"].dtype, frames[f"q{number}"].shape) == (
            np.uint8,
            (8, 48, 64, 3),
        )
        assert np.array_equal(frames[f"q{number}"], expected(media, number))
    assert frames["q2"] is None, "no such clip"
    assert frames["q6"] is None, "it cannot be read"
    (message,) = {str(one.message) for one in caught if one.category is MediaWarning}
    assert message == (
        f"{media / 'clip_6.mp4'}: cannot be read as a video (this is text, not a video); "
        "its frames are null"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_is_decoded_when_it_is_read_and_each_time(
    rows: Path, media: Path, streaming: bool
) -> None:
    loaded = load_dataset("qa", data_dir=rows, media=media, frames=2, streaming=streaming)
    shutil.copy(media / "clip_5.mp4", media / "clip_1.mp4")
    (media / "clip_6.mp4").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", MediaWarning)  # of the sixth row, were it decoded
        first = next(iter(loaded))
        assert np.array_equal(first["frames"], expected(media, 5, 2))
        shutil.copy(media / "clip_4.mp4", media / "clip_1.mp4")
        again = next(iter(loaded))
        assert np.array_equal(again["frames"], expected(media, 4, 2))


@pytest.mark.filterwarnings("ignore::sharegptvideo.errors.MediaWarning")
def test_a_table_keeps_its_verbs(rows: Path, media: Path) -> None:
    table = load_dataset("qa", data_dir=rows, media=media, frames=8)
    readable = table.filter(lambda row: row["frames"] is not None)
    assert readable["id"] == ["q1", "q3", "q4", "q5"]
    last = readable.shuffle(seed=1).sort("id").select([3])
    assert np.array_equal(last[0]["frames"], expected(media, 5))
    assert [len(frames) for frames in readable[1:3]["frames"]] == [8, 8]
    asked = readable.map(lambda row: {"question": row["question"] + "!"})
    assert np.array_equal(asked[1]["frames"], expected(media, 3))
    mean = expected(media, 3).mean()
    measured = readable.map(lambda frames: {"mean": frames.mean()}, input_columns=["frames"])
    assert measured[1]["mean"] == mean
    assert np.array_equal(measured[1]["frames"], expected(media, 3))
    alone = readable.map(lambda row: {"mean": row["frames"].mean()}, remove_columns=["frames"])
    assert alone[1]["mean"] == mean
    with pytest.raises(UserError, match=r'never stored.*input_columns=\["frames"\]'):
        readable.map(lambda row: {"mean": row["frames"].mean()})
    slices = load_dataset("qa", "train[2:4]", data_dir=rows, media=media, frames=1)
    assert np.array_equal(slices[1]["frames"], expected(media, 4, 1))


@pytest.mark.filterwarnings("ignore::sharegptvideo.errors.MediaWarning")
def test_a_stream_keeps_its_verbs(rows: Path, media: Path) -> None:
    stream = load_dataset("qa", data_dir=rows, media=media, frames=8, streaming=True)
    readable = stream.filter(lambda row: row["frames"] is not None)
    means = [row["mean"] for row in readable.map(lambda row: {"mean": row["frames"].mean()})]
    assert means == [expected(media, number).mean() for number in (1, 3, 4, 5)]
    some = {row["id"]: row["frames"] for row in readable.shuffle(seed=1, buffer_size=3).take(2)}
    assert len(some) == 2
    assert all(np.array_equal(some[name], expected(media, int(name[1:]))) for name in some)
    part = load_dataset("qa", "train[:1]", data_dir=rows, media=media, frames=3, streaming=True)
    assert [row["frames"].shape for row in part] == [(3, 48, 64, 3)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("tensors", [False, True])
def test_workers_decode_and_the_loader_collates(
    rows: Path, media: Path, streaming: bool, tensors: bool
) -> None:
    torch = pytest.importorskip("torch")
    loaded = load_dataset("qa", data_dir=rows, media=media, frames=8, streaming=streaming)
    readable = loaded.skip(2).take(3).select_columns(SHOWN)
    readable = pickle.loads(pickle.dumps(readable))  # what a worker that is not forked gets
    gc.collect()
    batches = list(
        torch.utils.data.DataLoader(
            readable.with_format("torch") if tensors else readable, batch_size=3, num_workers=2
        )
    )
    (batch,) = batches
    assert batch["question"] == [f"What is {number}?" for number in (3, 4, 5)]
    # `datasets` makes every whole number int64 in the format "torch".
    assert batch["frames"].dtype == (torch.int64 if tensors else torch.uint8)
    wanted = np.stack([expected(media, number) for number in (3, 4, 5)])
    assert np.array_equal(batch["frames"].numpy(), wanted)


def test_the_torch_format_can_keep_bytes(rows: Path, media: Path) -> None:
    torch = pytest.importorskip("torch")
    table = load_dataset("qa", data_dir=rows, media=media, frames=8)
    only = {"columns": ["frames"], "output_all_columns": True}
    row = table.with_format("torch", dtype=torch.uint8, **only)[0]
    assert row["frames"].dtype == torch.uint8
    assert row["question"] == "What is 1?"


def test_clips_of_several_sizes_become_one_size(rows: Path, media: Path, write_clip: Any) -> None:
    torch = pytest.importorskip("torch")
    write_clip(media / "clip_2.mp4", 12, size=(48, 80))
    gc.collect()
    two = {"data_dir": rows, "media": media, "frames": 4}
    table = load_dataset("qa", "train[:2]", **two).select_columns(SHOWN)
    with pytest.raises(RuntimeError, match="equal size"):
        next(iter(torch.utils.data.DataLoader(table, batch_size=2)))
    table = load_dataset("qa", "train[:2]", **two, frames_size=32).select_columns(SHOWN)
    (batch,) = torch.utils.data.DataLoader(table, batch_size=2)
    assert batch["frames"].shape == (2, 4, 32, 32, 3)
    # Scaled so that the whole width is seen, and only it: 48 of 80 rows are left.
    wide = expected(media, 2, 4)[0, 16:64].astype(float).mean(axis=(0, 1))
    assert np.abs(batch["frames"][1, 0].numpy().mean(axis=(0, 1)) - wide).max() < 3


def test_clips_within_the_rows_become_frames_by_a_cast(media: Path) -> None:
    clips = [{"bytes": (media / "clip_1.mp4").read_bytes(), "path": "clip_1.mp4"}, None]
    clips.append({"bytes": b"no video", "path": "clip_6.mp4"})
    kinds = datasets.Features({"clip": datasets.Video()})
    table = datasets.Dataset.from_dict({"clip": clips}, features=kinds)
    frames = table.cast_column("clip", ClipFrames(8))
    assert np.array_equal(frames[0]["clip"], expected(media, 1))
    assert frames[1]["clip"] is None
    with pytest.warns(MediaWarning, match=r"clip_6\.mp4: <bytes, 8 B>: cannot be read"):
        assert frames[2]["clip"] is None
    assert frames.cast_column("clip", datasets.Video(decode=False))[0]["clip"] == clips[0]


def test_by_the_name_in_datasets_and_from_a_saved_table(
    rows: Path, media: Path, tmp_path: Path, python: Callable[..., str]
) -> None:
    table = datasets.load_dataset(
        "sharegptvideo", "qa", split="train", data_dir=str(rows), media=str(media), frames=2
    )
    assert np.array_equal(table[0]["frames"], expected(media, 1, 2))
    table.save_to_disk(tmp_path / "saved")
    code = (
        "import sharegptvideo, datasets; print(datasets.load_from_disk('saved')[0]['frames'].sum())"
    )
    assert python(code).split()[-1] == str(expected(media, 1, 2).sum())


@pytest.mark.parametrize("streaming", [False, True])
def test_a_decoder_of_the_whole_clip(
    rows: Path, media: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """With a stand-in for torchcodec; tests/peers has the real one."""
    asked = {"data_dir": rows, "media": media, "frames": "video", "streaming": streaming}
    if importlib.util.find_spec("torchcodec") is None:
        with pytest.raises(
            UserError, match=r"^torchcodec is not installed: pip install .*torchcodec"
        ):
            load_dataset("qa", **asked)
    for name in ("torchcodec", "torchcodec.decoders"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    (media / "clip_1.mp4").unlink()
    pictures(media / "clip_1", 2)

    def stored() -> list[str | None]:
        loaded = load_dataset("qa", **asked)
        assert loaded.features["clip"] == datasets.Video()
        plain = loaded.cast_column("clip", datasets.Video(decode=False))
        return [row["clip"] and row["clip"]["path"] for row in plain]

    with pytest.warns(DataWarning, match=r"folders of frames, such as .*clip_1, are null in clip"):
        clips = stored()
    files = [str(media / f"clip_{number}.mp4") for number in range(1, 7)]
    assert clips == [None, None, *files[2:]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames must be a whole number of at least 1, got 0"),
        ({"frames": "8"}, "frames must be a whole number or 'video', got '8'"),
        ({"frames": 8, "frames_size": 0}, "frames_size must be a whole number of at least 1"),
        ({"frames_size": 224}, "frames_size= needs frames="),
        ({"frames": "video", "frames_size": 224}, "leave out frames_size="),
        ({"frames": 8, "reader": "decored"}, "unknown reader 'decored'; did you mean decord"),
        ({"frames": 8, "media": None}, "frames= needs media="),
    ],
)
def test_mistakes_are_one_line(
    rows: Path, media: Path, options: dict[str, Any], message: str
) -> None:
    for streaming in (False, True):
        with pytest.raises(UserError, match=message):
            load_dataset("qa", data_dir=rows, streaming=streaming, **{"media": media, **options})


def test_rows_without_videos_have_no_frames(rows: Path, media: Path) -> None:
    with pytest.raises(UserError, match="the rows of image_captions name none"):
        load_dataset("image_captions", data_dir=rows, media=media, frames=8)
