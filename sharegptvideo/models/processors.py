"""Processors of transformers for video models: load one, put a question, prepare a clip once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

from sharegptvideo._io import sha256_file
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import model_type, quiet_transformers
from sharegptvideo.models.hub import checkpoint_folder

__all__ = [
    "FOLDER_FPS",
    "OneClip",
    "clip_metadata",
    "load_processor",
    "render_question",
    "reserved_marks",
    "settings_hash",
]

FOLDER_FPS = 2.0
"""A folder of frames does not say its rate; those of the release have this one."""

_SETTINGS = {".json", ".jinja", ".model", ".txt"}


def load_processor(path: str) -> Any:
    """The processor of a video model, which turns messages and frames into its inputs.

    Raises:
        UserError: no checkpoint there, torchvision is missing, the architecture answers no
            questions about videos, or the checkpoint lacks a part.
    """
    import torch
    from transformers import AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    from transformers.utils.import_utils import is_torchvision_available

    kind = model_type(path)
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UserError(
            f"model {path}: architecture {kind!r} gives no answers about videos; "
            "take a video language model of transformers, or python: for code of your own"
        )
    if not is_torchvision_available():
        raise UserError(
            f"model {path}: the processors of {kind!r} need torchvision: "
            "pip install torchvision, in the version that goes with this torch "
            f"({torch.__version__})"
        )
    try:
        with quiet_transformers():
            processor = AutoProcessor.from_pretrained(checkpoint_folder(path))  # type: ignore[no-untyped-call]  # untyped in transformers
    except (ImportError, OSError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"model {path}: its processor cannot be loaded ({cause})") from error
    if getattr(processor, "video_processor", None) is None:
        raise UserError(f"model {path}: its processor takes no videos")
    template = processor.chat_template or getattr(processor.tokenizer, "chat_template", None)
    if not template and kind != "smolvlm":  # whose processor has one for videos
        raise UserError(f"model {path}: no chat template in it; it cannot be asked questions")
    return processor


def render_question(processor: Any, question: str) -> str:
    """A question on one clip in the model's chat template, the clip as its placeholder.

    Raises:
        UserError: the question holds a token that stands for a picture, a video or a turn.
    """
    found = sorted(token for token in reserved_marks(processor) if token in question)
    if found:
        raise UserError(f"a question may not hold the model's own mark {found[0]!r}: {question!r}")
    content = [{"type": "video"}, {"type": "text", "text": question}]
    return str(
        processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
    )


def reserved_marks(processor: Any) -> set[str]:
    """The tokens that stand for pictures, videos and turns, which no text may hold."""
    tokenizer = processor.tokenizer
    marks = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    marks |= {str(getattr(processor, f"{kind}_token", "") or "") for kind in ("image", "video")}
    return {mark for mark in marks if mark.strip()}


def clip_metadata(indices: Sequence[int], fps: float | None) -> Any:
    """Where the frames of a clip stand in it, as transformers' processors take it.

    Args:
        indices: number of each frame, from 0.
        fps: frames a second; None: not known, and taken for 2, the rate of the release's folders.
    """
    from transformers.video_utils import VideoMetadata

    fps = fps or FOLDER_FPS
    total = indices[-1] + 1
    return VideoMetadata(
        total_num_frames=total, fps=fps, duration=total / fps, frames_indices=list(indices)
    )


def settings_hash(path: str) -> str:
    """SHA-256 over what beside the weights decides on answers: configs, tokenizer, templates."""
    digest = hashlib.sha256()
    for file in sorted(checkpoint_folder(path).iterdir()):
        if file.suffix in _SETTINGS and not file.name.endswith(".index.json"):
            digest.update(f"{file.name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


class OneClip:
    """Stands in for a processor's video processor: the same clip is prepared once."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._prepared: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._prepared is None:
            self._prepared = self._inner(*args, **kwargs)
        return copy.copy(self._prepared)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
