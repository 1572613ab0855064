"""What a checkpoint is, from its config alone: architecture and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json_object
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import (
    AUTHORS,
    IMAGE_ONLY,
    checkpoint_folder,
    model_type,
    outline,
)

__all__ = ["ModelInfo", "model_info"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `model info` says of a checkpoint.

    Attributes:
        architecture: `model_type` of its config.
        parameters: all; by part, such as `video_tower`, in `parts`.
        frames: of a clip, where the architecture fixes them.
        clip_positions: positions that a clip takes in the prompt, where they are fixed.
        image_positions: those of an image.
        positions: limit of the language model, prompt and answer together.
        temporal_attention: whether the video tower attends over time.
    """

    architecture: str
    parameters: int
    parts: dict[str, int]
    frames: int | None
    clip_positions: int | None
    image_positions: int | None
    positions: int | None
    temporal_attention: bool


def model_info(path: str) -> ModelInfo:
    """Describe a checkpoint; no weights are read.

    Args:
        path: a folder, or a Hub id.

    Raises:
        UserError: nothing there, or an architecture that transformers does not know.
    """
    folder = checkpoint_folder(path, ("config.json",))
    if (folder / "config.json").is_file():
        kind = read_json_object(folder / "config.json").get("model_type")
        if kind in AUTHORS:
            return _unconverted(folder, str(kind), path)
    kind = model_type(path)
    try:
        model = outline(path, dtype="float32")
    except ValueError as error:  # no model of images or clips and text
        cause = str(error).strip().splitlines()[0][:120]
        raise UserError(f"model {path}: architecture {kind!r} reads no clips ({cause})") from error
    config: Any = model.config
    text = config.get_text_config()
    fixed = hasattr(config, "video_seq_length")
    video = getattr(config, "video_config", None)
    parts = {
        name: sum(w.numel() for w in part.parameters())
        for name, part in model.model.named_children()
    }
    return ModelInfo(
        architecture=kind,
        parameters=sum(w.numel() for w in model.parameters()),
        parts={name: count for name, count in parts.items() if count},
        frames=_frames(config) if fixed else None,
        clip_positions=int(config.video_seq_length) if fixed else None,
        image_positions=int(config.image_seq_length) if fixed else None,
        positions=int(text.max_position_embeddings),
        temporal_attention=bool(getattr(video, "add_time_attn", False)),
    )


def _frames(config: Any) -> int:
    video = getattr(config, "video_config", None)
    if video is not None:
        return int(video.num_frames)
    vision = config.vision_config
    return int(config.video_seq_length // ((vision.image_size // vision.patch_size) ** 2 + 1))


def _unconverted(folder: Path, kind: str, path: str) -> ModelInfo:
    config = read_json_object(folder / "config.json")
    if not config.get("mm_video_tower"):
        raise UserError(f"model {path}: {IMAGE_ONLY}")
    return ModelInfo(
        architecture=f"{kind}, the authors' layout",
        parameters=0,
        parts={},
        frames=None,
        clip_positions=None,
        image_positions=None,
        positions=config.get("max_position_embeddings"),
        temporal_attention=True,
    )
