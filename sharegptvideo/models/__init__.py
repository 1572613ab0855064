"""Video language models: load one, prompt it and let it answer; build a small Video-LLaVA.

Importing this package is light; torch and transformers come in with the first name that is used.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharegptvideo._imports import after_import

if TYPE_CHECKING:
    from sharegptvideo.models.checkpoints import (
        check_architecture,
        check_whole,
        load_model,
        load_tokenizer,
        model_type,
        outline,
        quiet_transformers,
        weights_hash,
    )
    from sharegptvideo.models.general import ClipTimes, GeneralVideoModel, shares_prefix
    from sharegptvideo.models.generation import VideoLanguageModel
    from sharegptvideo.models.hub import checkpoint_folder
    from sharegptvideo.models.in_memory import answering
    from sharegptvideo.models.pixels import VideoPixels
    from sharegptvideo.models.processors import load_processor, render_question, settings_hash
    from sharegptvideo.models.prompts import conversation, encode, expand_video, video_token_count
    from sharegptvideo.models.tiny import SIZES, ModelSize, build_tiny

__all__ = [
    "SIZES",
    "ClipTimes",
    "GeneralVideoModel",
    "ModelSize",
    "VideoLanguageModel",
    "VideoPixels",
    "answering",
    "build_tiny",
    "check_architecture",
    "check_whole",
    "checkpoint_folder",
    "conversation",
    "encode",
    "expand_video",
    "load_model",
    "load_processor",
    "load_tokenizer",
    "model_type",
    "outline",
    "quiet_transformers",
    "render_question",
    "settings_hash",
    "shares_prefix",
    "video_token_count",
    "weights_hash",
]

_HOME = {
    "SIZES": "tiny",
    "ClipTimes": "general",
    "GeneralVideoModel": "general",
    "ModelSize": "tiny",
    "VideoLanguageModel": "generation",
    "VideoPixels": "pixels",
    "answering": "in_memory",
    "build_tiny": "tiny",
    "check_architecture": "checkpoints",
    "check_whole": "checkpoints",
    "checkpoint_folder": "hub",
    "conversation": "prompts",
    "encode": "prompts",
    "expand_video": "prompts",
    "load_model": "checkpoints",
    "load_processor": "processors",
    "load_tokenizer": "checkpoints",
    "model_type": "checkpoints",
    "outline": "checkpoints",
    "quiet_transformers": "checkpoints",
    "render_question": "processors",
    "settings_hash": "processors",
    "shares_prefix": "general",
    "video_token_count": "prompts",
    "weights_hash": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def _register_on_use(module: Any) -> None:
    """Make LLaVA-Hound known to transformers' `Auto...` classes, before one first reads a config.

    Not at once: this runs in the middle of transformers' own imports.
    """

    def registering(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            importlib.import_module(f"{__name__}.llava_hound")
            return call(*args, **kwargs)

        return wrapped

    for name in ("from_pretrained", "for_model"):
        call = getattr(module.AutoConfig, name)
        setattr(module.AutoConfig, name, staticmethod(registering(call)))


after_import("transformers.models.auto.configuration_auto", _register_on_use)
