"""Decoded clips kept between epochs: equal to the bit, whole or absent, of one way of decoding."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharegptvideo._io import cache_folder
from sharegptvideo.errors import UserError
from sharegptvideo.models import VideoPixels, build_tiny
from sharegptvideo.models.pixels import authors_processor
from sharegptvideo.training import Recipe, SftRecipe, load_recipe, run_recipe
from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.examples import sft_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.families.base import Clip, ClipReader
from sharegptvideo.training.families.video_llava import VideoLlavaReader
from sharegptvideo.training.mix import Visual
from sharegptvideo.training.plan import dry_run, dry_run_lines
from sharegptvideo.training.precompute.clips import ClipKeeper, ClipStore, KeptReader
from sharegptvideo.training.recipes import DataSource, LengthLimit
from tests.support.training_fixtures import SHORT, TEXTS, common, write_clip
from tests.training.test_streaming import as_parquet

Change = Callable[..., Any]
LIMIT = LengthLimit(128)
AUTHORS = authors_processor(32, 8)
HOME = Path(f"/dev/shm/sharegptvideo-{os.getuid()}")


class Counting(VideoLlavaReader):
    """Counts what it decodes, in a list that all of its copies share."""

    decoded: list[str] = []  # noqa: RUF012

    def decode(self, visual: Visual) -> Clip:
        self.decoded.append(visual.path)
        return super().decode(visual)


def reader(*, authors: bool, side: int = 32) -> Counting:
    clips = VideoPixels.from_config(AUTHORS["video_processor"])
    images = VideoPixels.from_config(AUTHORS["image_processor"])
    plain = VideoPixels(shortest_edge=side, crop_height=side, crop_width=side)
    Counting.decoded.clear()
    return Counting(
        pixels=clips if authors else plain,
        image_pixels=images if authors else None,
        frames=4,
        pad_id=0,
        video_id=1,
        video_tokens=20,
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_clip(path, (30, 90, 200))
    return path


def test_a_training_with_kept_clips_is_the_same_to_the_bit(
    sft_run: tuple[SftRecipe, Any], change: Change, tmp_path: Path
) -> None:
    """Filled by two loader workers; then without any decoding, by the training itself."""
    plain, _ = sft_run
    notes: list[str] = []
    for number, (how, workers) in enumerate([("disk", 2), ("disk", 0), ("memory", 2)]):
        data = {"keep_clips": how, "workers": workers}
        recipe = change(plain, output=str(tmp_path / str(number)), data=data)
        run_recipe(recipe, report=notes.append)
        assert_same(Path(recipe.output), Path(plain.output))
    size = 4 * 16 * 16 * 3
    said = [line for line in notes if line.startswith("decoded clips are kept in")]
    assert len(said) == 3
    assert all(f": 4 clips × {size / 1000:.1f} kB = " in line for line in said)
    assert said[1].endswith("; 100 % of them are there already")
    assert len([*(cache_folder() / "clips").rglob("*.clip")]) >= 4


def assert_same(left: Path, right: Path) -> None:
    a, b = (load_file(folder / "model.safetensors") for folder in (left, right))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_dpo_and_streamed_rows_with_kept_clips_are_the_same(
    dpo_run: tuple[Recipe, Any],
    sft_recipe: SftRecipe,
    release: Path,
    change: Change,
    tmp_path: Path,
) -> None:
    plain, _ = dpo_run
    kept = change(plain, output=str(tmp_path / "kept"), data={"keep_clips": "memory"})
    run_recipe(kept)
    assert_same(Path(kept.output), Path(plain.output))

    source = str(as_parquet("sft", release, tmp_path / "parquet"))
    data = {"data_dir": source, "split": "train", "stream": True}
    streamed = change(sft_recipe, data=data)
    run_recipe(streamed)
    notes: list[str] = []
    kept = change(streamed, output=str(tmp_path / "streamed"), data={"keep_clips": "disk"})
    run_recipe(kept, report=notes.append)
    assert_same(Path(kept.output), Path(streamed.output))
    assert any(": 4 clips × 3.1 kB = " in line for line in notes)


@pytest.mark.parametrize("architecture", ["video_llava", "llava_hound"])
def test_batches_of_clips_and_images_are_the_same(
    architecture: Any, both: Path, tmp_path: Path
) -> None:
    """Of a mixture, the authors' pixels too, which are not rounded after resizing."""
    model = build_tiny(TEXTS, tmp_path / "model", seed=1, size="tiny", architecture=architecture)
    place = common(both, model, tmp_path / "out")
    own, rows = opened(load_recipe("demo/sft", [*place, *SHORT]))
    assert any(rows["image_path"])
    batches = [SftCollator(ClipCache(own), LIMIT)([row]) for row in rows]
    with ClipKeeper(DataSource(name="sft", keep_clips="memory"), lambda _: None) as keeper:
        for _ in range(2):
            collate = SftCollator(ClipCache(keeper.reader(own, rows), limit=1), LIMIT)
            for row, batch in zip(rows, batches, strict=True):
                found = collate([row]).get("clips", {})
                assert found.keys() == batch.get("clips", {}).keys()
                for name, pixels in found.items():
                    assert torch.equal(pixels, batch["clips"][name])
                    assert pixels.dtype == torch.float32


def opened(recipe: Any) -> tuple[ClipReader, Any]:
    """The reader of a recipe's model, and its rows."""
    family = open_family(recipe)
    rows, _ = sft_dataset(recipe.data, family, limit=LIMIT)
    return family.reader, rows


@pytest.mark.parametrize("authors", [False, True])
def test_a_clip_is_decoded_once_and_kept_in_its_smallest_form(
    authors: bool, clip: Path, tmp_path: Path
) -> None:
    """Frames of 48×32 as they are decoded, where 32×32 in float32 would be more."""
    own = reader(authors=authors)
    kept = KeptReader(own, ClipStore(tmp_path / "kept"))
    plain = own.read(str(clip))
    for _ in range(3):
        found = kept.read(str(clip))
        assert found.keys() == plain.keys()
        assert torch.equal(found["frames"], plain["frames"])
    assert len(own.decoded) == 1
    (file,) = (tmp_path / "kept").rglob("*.clip")
    size = 4 * 48 * 32 * 3 if authors else 4 * 32 * 32 * 3
    assert own.kept_bytes(Visual("video", str(clip))) == size
    assert size < file.stat().st_size < size + 300
    assert plain["frames"].dtype == (torch.float32 if authors else torch.uint8)


def test_a_damaged_record_is_decoded_anew(clip: Path, tmp_path: Path) -> None:
    """Cut, or a byte changed, as after a crash of the machine."""
    own, folder = reader(authors=False), tmp_path / "kept"
    kept = KeptReader(own, ClipStore(folder))
    plain = kept.read(str(clip))
    (file,) = folder.rglob("*.clip")
    whole = file.read_bytes()
    for number, damaged in enumerate((whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"")):
        file.unlink()  # what was read is mapped
        file.write_bytes(damaged)
        assert torch.equal(kept.read(str(clip))["frames"], plain["frames"])
        assert len(own.decoded) == 2 + number
        assert file.read_bytes() == whole


def test_what_a_killed_process_was_writing_is_no_record(clip: Path, tmp_path: Path) -> None:
    own, folder = reader(authors=False), tmp_path / "kept"
    store = ClipStore(folder)
    KeptReader(own, store).read(str(clip))
    (file,) = folder.rglob("*.clip")
    old, young = (file.with_name(f".{file.name}.{n}.tmp") for n in (1, 2))
    for left in (old, young):
        left.write_bytes(file.read_bytes()[:50])
    os.utime(old, (1, 1))
    store.sweep()
    assert file.exists()
    assert not old.exists()
    assert young.exists()  # another process may be writing it


def test_a_changed_clip_and_other_settings_are_decoded_anew(clip: Path, tmp_path: Path) -> None:
    own = reader(authors=False)
    kept = KeptReader(own, ClipStore(tmp_path / "kept"))
    before = kept.read(str(clip))["frames"].clone()
    write_clip(clip, (200, 20, 20))
    assert not torch.equal(kept.read(str(clip))["frames"], before)
    assert len(own.decoded) == 2
    elsewhere = tmp_path / "other" / clip.name
    elsewhere.parent.mkdir()
    shutil.copy2(clip, elsewhere)  # of the same name, size and time
    kept.read(str(elsewhere))
    assert own.decoded[-1] == str(elsewhere)
    settings = {
        one.decoding() for one in (own, reader(authors=True), reader(authors=False, side=24))
    }
    assert len(settings) == 3


def test_a_full_disk_is_one_line(clip: Path, tmp_path: Path) -> None:
    kept = KeptReader(reader(authors=False), ClipStore(tmp_path / "kept", "do this"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match="the disk is full; do this"):
            kept.read(str(clip))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


def test_shared_memory_is_free_again_after_the_last_training(
    sft_recipe: SftRecipe, change: Change
) -> None:
    recipe = change(sft_recipe, data={"keep_clips": "memory"})
    _, rows = opened(recipe)
    own = reader(authors=False, side=16 + os.getpid() % 1000)  # no other test's, elsewhere, now
    left = HOME / f"left-{os.getpid()}"  # of a training that was killed, which decoded otherwise
    left.mkdir(parents=True)
    left.with_suffix(".lock").touch()
    notes: list[str] = []
    with ClipKeeper(recipe.data, notes.append) as first:
        kept = first.reader(own, rows)
        assert isinstance(kept, KeptReader)
        kept.read(rows[0]["video_path"])
        assert not left.exists()
        with ClipKeeper(recipe.data, notes.append) as second:
            again = second.reader(own, rows)
            assert isinstance(again, KeptReader)
            assert again.store.folder == kept.store.folder
        assert kept.store.folder.exists()  # the first one is still at it
    assert not kept.store.folder.exists()
    assert notes[1].endswith("; 25 % of them are there already")


def test_what_does_not_fit_is_refused_before_the_run(
    sft_recipe: SftRecipe, change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = dry_run(change(sft_recipe, data={"keep_clips": "memory"}))
    assert usual.kept_clips == "decoded once and kept in shared memory: 4 clips × 3.1 kB = 12.3 kB"
    assert any(line.startswith("clips     decoded once") for line in dry_run_lines(usual))
    assert usual.problems == []
    assert dry_run(sft_recipe).kept_clips is None

    own, rows = opened(sft_recipe)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))  # where none is there yet
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type(usage)(usage.total, 0, 10_000))
    for how, where in (("memory", "free in /dev/shm"), ("disk", "free for ")):
        recipe = change(sft_recipe, data={"keep_clips": how})
        cause = rf"keep_clips={how}: 4 clips × 3.1 kB = 12.3 kB take 12.3 kB, 10.0 kB {where}"
        assert any(cause in text for text in dry_run(recipe).problems)
        with (
            ClipKeeper(recipe.data, lambda _: None) as keeper,
            pytest.raises(UserError, match=r"or none|to none"),
        ):
            keeper.reader(own, rows)


def test_features_and_kept_clips_are_one_too_many() -> None:
    with pytest.raises(UserError, match=r"features\.enabled reads each clip once"):
        load_recipe(
            "llava_hound/dpo",
            ["features.enabled=true", "freeze.vision_tower=true", "data.keep_clips=disk"],
        )


def test_a_training_goes_on_with_clips_kept_otherwise(
    sft_recipe: SftRecipe, change: Change
) -> None:
    """The same clips either way, so what was begun without them is the same training."""
    run_recipe(sft_recipe)
    kept = run_recipe(change(sft_recipe, data={"keep_clips": "disk"}))
    assert kept.already_done
