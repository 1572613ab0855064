"""Frozen vision towers' features, computed once and read from disk in place of clips and images.

What is kept is what the tower gives before the projector. That is the smaller of the two (1,024
numbers a position in Video-LLaVA-7B, 4,096 after the projector), it stays true while the
projector learns, and what is left to compute is a fifteenth of the tower's work.

    FOLDER/KEY/*.safetensors    some clips each, whole or absent; tensors are named by clips' keys

KEY stands for the tower's weights, how frames are chosen and prepared, and the rounding; so stages
and runs with the same tower share one folder. Images have a tower, and so a folder, of their own.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.utils.data import DataLoader

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import cache_folder, os_errors, replacing_bytes
from sharegptvideo._text import byte_size, rounded
from sharegptvideo.errors import UserError
from sharegptvideo.models import video_token_count
from sharegptvideo.models.prompts import image_token_count
from sharegptvideo.training.checks import nearest_folder
from sharegptvideo.training.collators import ClipCache
from sharegptvideo.training.families.base import (
    FEATURES,
    IMAGE_FEATURES,
    Clip,
    ClipReader,
    VisualKind,
)
from sharegptvideo.training.mix import Visual
from sharegptvideo.training.precompute.fingerprints import clip_fingerprint, digest
from sharegptvideo.training.precompute.reference import starting_model

if TYPE_CHECKING:
    from sharegptvideo.training.families import ClipReader, TowerFamily
    from sharegptvideo.training.recipes import Recipe

__all__ = [
    "FeatureReader",
    "FeatureStore",
    "Filling",
    "check_features",
    "kept_bytes",
    "use_features",
    "visits",
    "worth",
]


@dataclass(frozen=True, slots=True)
class Filling:
    """How much of the cache is computed and written at a time.

    Attributes:
        batch: clips that go through the tower together.
        shard_bytes: the size at which a file is written.
        shard_seconds: the time after which it is: what a kill costs at most.
    """

    batch: int = 8
    shard_bytes: int = 256 << 20
    shard_seconds: float = 20.0


_FILLING = Filling()


def use_features(
    trainer: Any,
    recipe: Recipe,
    visuals: Sequence[Visual | None],
    note: Callable[[str], None],
    progress: Progress | None = None,
    filling: Filling = _FILLING,
) -> None:
    """Let the trainer read features from a cache that is filled first, if so configured.

    Else note where that would save time. Call it before training, in every process: each computes
    its share of the clips and images.

    Args:
        visuals: the clip or image of every row.
        note: gets a line about what the cache saves or would save.

    Raises:
        UserError: the tower learns; a family that cannot; no room on the disk.
    """
    config, processes = trainer.family.model.config, trainer.accelerator.num_processes
    counts = Counter(one for one in visuals if one is not None)
    sizes = kept_bytes(config, recipe.frames, bf16=recipe.optimisation.bf16)
    rows_of_one = counts.total() / max(len(counts), 1)
    seen = visits(recipe, len(trainer.train_dataset), rows_of_one, processes)
    kinds = Counter(one.kind for one in counts)
    advice = worth(recipe, seen, kinds, sizes)
    if advice and trainer.accelerator.is_main_process:
        note(f"features: {advice}")
    if not recipe.features.enabled:
        return
    known = check_features(recipe, config)
    stores: dict[VisualKind, _Kept] = {}
    for kind in kinds:
        store = FeatureStore(_folder(recipe) / _key(trainer, recipe, kind))
        keys = {one.path: clip_fingerprint(one.path) for one in counts if one.kind == kind}
        _fill(trainer, kind, store, keys, known[kind], progress, filling)
        stores[kind] = (store, keys)
    trainer.data_collator.clips = ClipCache(FeatureReader(trainer.family.reader, stores))


def visits(recipe: Recipe, examples: int, rows_of_clip: float, processes: int = 1) -> float:
    """Return how often a training comes to each of its clips and images, on average.

    In SFT rows about one clip share a batch where `sharing.video` is on, and so a visit.

    Args:
        examples: rows, or packs of rows, of an epoch.
        rows_of_clip: how many rows are about a clip, on average.
    """
    o = recipe.optimisation
    passes = o.epochs or 0.0
    if o.max_steps is not None:
        batch = o.per_device_batch_size * o.gradient_accumulation * processes
        passes = o.max_steps * batch / examples
    together = recipe.sharing.video and recipe.stage != "dpo"
    return passes if together else passes * rows_of_clip


def worth(
    recipe: Recipe,
    seen: float,
    counts: Mapping[VisualKind, int],
    sizes: dict[VisualKind, int] | None,
) -> str | None:
    """Return whether the cache would pay, in a line, or None.

    Filling it costs what one visit to every clip costs, so it pays from the second on.

    Args:
        seen: how often a clip is visited, as `visits` has it.
        counts: how many clips and images there are.
        sizes: as `kept_bytes` has them.
    """
    if sizes is None or not recipe.freeze.vision_tower:
        return None
    words = {"video": "clips", "image": "images"}
    what = " and ".join(f"{count:,} {words[kind]}" for kind, count in counts.items() if count)
    often = f"each of {what} is seen {rounded(seen, 1)} times"
    total = sum(count * sizes[kind] for kind, count in counts.items())
    room = f"{byte_size(total)} in {_folder(recipe)}"
    if recipe.features.enabled:
        pays = "it is computed once" if seen >= 2 else "the cache pays in later runs only"
        return f"{often}; {pays}; {room}"
    if seen >= 2:
        return f"{often}; features.enabled=true would decode and encode it once, for {room}"
    return None


def check_features(recipe: Recipe, config: Any) -> dict[VisualKind, int]:
    """Make sure that what a recipe wants kept can be; returns bytes a clip, bytes an image.

    Args:
        config: the model's, of transformers.

    Raises:
        UserError: the tower learns; an architecture that has no such cache.
    """
    if not recipe.freeze.vision_tower:
        raise UserError(
            "features.enabled: the vision tower learns, so its features change with every step; "
            "set freeze.vision_tower=true or features.enabled=false"
        )
    sizes = kept_bytes(config, recipe.frames, bf16=recipe.optimisation.bf16)
    if sizes is None:
        raise UserError(
            "features.enabled: for video_llava and llava_hound only, not "
            f"{config.model_type}; set it to false"
        )
    return sizes


def kept_bytes(config: Any, frames: int, *, bf16: bool) -> dict[VisualKind, int] | None:
    """Return bytes that features of a clip and an image take; None where there is no such cache.

    Args:
        config: the model's, of transformers.
        bf16: whether the tower computes in bfloat16.
    """
    if config.model_type not in ("video_llava", "llava_hound"):
        return None
    layers = config.vision_feature_layer
    width = config.vision_config.hidden_size * (1 if isinstance(layers, int) else len(layers))
    size = width * (2 if bf16 else 4)
    return {
        "video": video_token_count(config, frames) * size,
        "image": image_token_count(config) * size,
    }


def _folder(recipe: Recipe) -> Path:
    folder = recipe.features.folder
    return Path(folder).expanduser() if folder else cache_folder() / "features"


def _key(trainer: Any, recipe: Recipe, kind: VisualKind) -> str:
    accelerator = trainer.accelerator
    known: list[str | None] = [None]
    if accelerator.is_main_process:
        precision = f"{trainer.model.dtype}, autocast {accelerator.mixed_precision}"
        family: TowerFamily = trainer.family
        frames = recipe.frames if kind == "video" else 1
        known = [digest(family.feature_key(kind), frames, precision)]
    broadcast_object_list(known)
    return str(known[0])


def _fill(
    trainer: Any,
    kind: VisualKind,
    store: FeatureStore,
    keys: dict[str, str],
    size: int,
    progress: Progress | None,
    filling: Filling,
) -> None:
    accelerator = trainer.accelerator
    first = accelerator.is_main_process
    rank, world = accelerator.process_index, accelerator.num_processes
    left = [[path for path, key in keys.items() if key not in store]]
    broadcast_object_list(left)
    missing = left[0]
    what, noun = "vision features", "clips" if kind == "video" else "images"
    if missing:
        _check_room(store.folder, len(missing), size)
        what += f" ({len(missing):,} {noun} x {byte_size(size)} = {byte_size(len(missing) * size)})"
    if missing and progress and first:
        progress(0, len(missing), what)
    held: dict[str, torch.Tensor] = {}
    done, began = 0, time.monotonic()
    for paths, features in _computed(trainer, kind, missing[rank::world], filling.batch):
        held.update({keys[path]: one.clone() for path, one in zip(paths, features, strict=True)})
        done += len(paths)
        large = sum(one.nbytes for one in held.values()) >= filling.shard_bytes
        if large or time.monotonic() - began >= filling.shard_seconds:
            store.add(held)
            held, began = {}, time.monotonic()
        if progress and first:
            progress(min(done * world, len(missing)), len(missing), what)
    if held:
        store.add(held)
    accelerator.wait_for_everyone()
    store.refresh()
    lost = [path for path, key in keys.items() if key not in store]
    if lost:
        raise UserError(
            f"features.folder {store.folder}: {len(lost)} {noun} computed elsewhere are not here; "
            "name a folder that all processes see"
        )


def _check_room(folder: Path, clips: int, size: int) -> None:
    """Raise UserError where the disk of `folder` has no room for so many clips of `size` bytes."""
    free = shutil.disk_usage(nearest_folder(folder)).free
    if clips * size > free:
        raise UserError(
            f"features.folder {folder}: {clips:,} clips of {byte_size(size)} take "
            f"{byte_size(clips * size)}, and {byte_size(free)} are free; free some space, name "
            "another folder or set features.enabled=false",
            exit_code=1,
        )


def _computed(
    trainer: Any, kind: VisualKind, paths: Sequence[str], batch: int
) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Yield some clips or images at a time, by path, and their features on the CPU."""
    if not paths:
        return
    accelerator = trainer.accelerator
    family: TowerFamily = trainer.family
    rounded = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    loader: DataLoader[Any] = DataLoader(
        paths,  # type: ignore[arg-type]  # a list is a dataset
        batch_size=batch,
        collate_fn=partial(_read, family.reader, kind),
        num_workers=trainer.args.dataloader_num_workers,
        generator=torch.Generator(),  # training's own draws stay what they are
    )
    with starting_model(trainer), torch.no_grad():
        for names, inputs in loader:
            with accelerator.autocast():
                features = family.tower_features(send_to_device(inputs, accelerator.device))
            # Under autocast the projector begins by rounding like this: nothing is lost.
            yield names, features.to("cpu", rounded)


def _read(
    reader: ClipReader, kind: VisualKind, paths: list[str]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    clips = [reader.read_visual(Visual(kind, path)) for path in paths]
    return paths, reader.batch(clips) if kind == "video" else reader.batch_images(clips)


_FIX = (
    "free some space there, name another folder as features.folder, or set features.enabled=false"
)


class FeatureStore:
    """Features of clips by key, in files that are mapped into memory where they are read.

    It may be pickled: loader workers open the files for themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of: dict[str, str] = {}
        self._open: dict[str, Any] = {}
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def refresh(self) -> None:
        """Read again which clips are there; a damaged file has none."""
        self._file_of = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    self._file_of.update(dict.fromkeys(file.keys(), path.name))
            except (OSError, SafetensorError):
                continue

    def __contains__(self, key: object) -> bool:
        return key in self._file_of

    def __len__(self) -> int:
        return len(self._file_of)

    def features(self, key: str) -> torch.Tensor:
        """frames×positions×size of a clip, positions×size of an image, mapped from the file.

        Raises:
            KeyError: not there.
        """
        name = self._file_of[key]
        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, framework="pt")
        features: torch.Tensor = self._open[name].get_tensor(key)
        return features

    def add(self, features: dict[str, torch.Tensor]) -> None:
        """Write some clips' features as one file, whole or not at all.

        Raises:
            UserError: the disk is full, or the folder may not be written.
        """
        name = f"{uuid.uuid4().hex}.safetensors"
        content = save(features)
        with os_errors(self.folder, _FIX), replacing_bytes(self.folder / name) as file:
            file.write(content)
        self._file_of.update(dict.fromkeys(features, name))


_Kept = tuple[FeatureStore, dict[str, str]]


class FeatureReader(ClipReader):
    """Gives features where `reader` would decode clips and images.

    Args:
        reader: of the clips themselves; it still lays out the tokens.
        kept: features and their keys by path, of clips and of images.
    """

    def __init__(self, reader: ClipReader, kept: dict[VisualKind, _Kept]) -> None:
        self.reader = reader
        self.kept = kept
        self.pad_id = reader.pad_id
        self.video_tokens = reader.video_tokens
        self.image_tokens = reader.image_tokens

    def read(self, path: str) -> Clip:
        """`features`, frames×positions×size."""
        return self._features("video", path)

    def read_image(self, path: str) -> Clip:
        """`features`, positions×size."""
        return self._features("image", path)

    def _features(self, kind: VisualKind, path: str) -> Clip:
        store, keys = self.kept[kind]
        return {FEATURES: store.features(keys[path])}

    def expand(
        self, ids: list[int], assistant_mask: list[bool], clip: Clip
    ) -> tuple[list[int], list[bool]]:
        """As the reader of clips does."""
        return self.reader.expand(ids, assistant_mask, clip)

    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """`features`, clips×frames×positions×size."""
        return {FEATURES: torch.stack([clip[FEATURES] for clip in clips])}

    def batch_images(self, images: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """`image_features`, images×positions×size."""
        return {IMAGE_FEATURES: torch.stack([image[FEATURES] for image in images])}

    def blank(self, kind: VisualKind) -> Clip:
        """Return features of zeros."""
        path = next(iter(self.kept[kind][1]))
        return {FEATURES: torch.zeros_like(self._features(kind, path)[FEATURES])}
