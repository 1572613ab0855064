"""Models that answer questions about clips, all with one interface; a small Video-LLaVA.

`open_model("hf:PATH")` opens any of them. Importing this package is light; torch and transformers
come in with the first name that needs them.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharegptvideo._imports import after_import

if TYPE_CHECKING:
    from sharegptvideo.models.base import Answer, Model, Question, Request, SamplingParams
    from sharegptvideo.models.checkpoints import (
        checkpoint_folder,
        load_model,
        load_tokenizer,
        model_type,
        outline,
        quiet_transformers,
        weights_hash,
    )
    from sharegptvideo.models.local import LocalModel
    from sharegptvideo.models.pixels import VideoPixels
    from sharegptvideo.models.processor import ProcessorModel, load_processor, render_question
    from sharegptvideo.models.prompts import conversation, encode, expand_video, video_token_count
    from sharegptvideo.models.registry import answering, local_class, open_model
    from sharegptvideo.models.settings import AnswerSettings
    from sharegptvideo.models.tiny import SIZES, ModelSize, build_tiny
    from sharegptvideo.models.video_llava import VideoLlavaModel

__all__ = [
    "SIZES",
    "Answer",
    "AnswerSettings",
    "LocalModel",
    "Model",
    "ModelSize",
    "ProcessorModel",
    "Question",
    "Request",
    "SamplingParams",
    "VideoLlavaModel",
    "VideoPixels",
    "answering",
    "build_tiny",
    "checkpoint_folder",
    "conversation",
    "encode",
    "expand_video",
    "load_model",
    "load_processor",
    "load_tokenizer",
    "local_class",
    "model_type",
    "open_model",
    "outline",
    "quiet_transformers",
    "render_question",
    "video_token_count",
    "weights_hash",
]

_MODULES = {
    "base": ["Answer", "Model", "Question", "Request", "SamplingParams"],
    "checkpoints": [
        "checkpoint_folder",
        "load_model",
        "load_tokenizer",
        "model_type",
        "outline",
        "quiet_transformers",
        "weights_hash",
    ],
    "local": ["LocalModel"],
    "pixels": ["VideoPixels"],
    "processor": ["ProcessorModel", "load_processor", "render_question"],
    "prompts": ["conversation", "encode", "expand_video", "video_token_count"],
    "registry": ["answering", "local_class", "open_model"],
    "settings": ["AnswerSettings"],
    "tiny": ["SIZES", "ModelSize", "build_tiny"],
    "video_llava": ["VideoLlavaModel"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


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
