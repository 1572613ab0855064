"""Video language models: load one, prompt it and let it answer; build a small Video-LLaVA.

Importing this package is light; torch and transformers come in with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharegptvideo.modeling.general import ClipTimes, GeneralVideoModel, shares_prefix
    from sharegptvideo.modeling.generation import VideoLanguageModel
    from sharegptvideo.modeling.hub import checkpoint_folder
    from sharegptvideo.modeling.live import answering
    from sharegptvideo.modeling.loading import (
        check_architecture,
        check_whole,
        load_model,
        load_tokenizer,
        model_type,
        outline,
        quiet_transformers,
        weights_hash,
    )
    from sharegptvideo.modeling.pixels import VideoPixels
    from sharegptvideo.modeling.processors import load_processor, render_question, settings_hash
    from sharegptvideo.modeling.prompts import conversation, encode, expand_video, video_token_count
    from sharegptvideo.modeling.tiny import SIZES, ModelSize, build_tiny

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
    "answering": "live",
    "build_tiny": "tiny",
    "check_architecture": "loading",
    "check_whole": "loading",
    "checkpoint_folder": "hub",
    "conversation": "prompts",
    "encode": "prompts",
    "expand_video": "prompts",
    "load_model": "loading",
    "load_processor": "processors",
    "load_tokenizer": "loading",
    "model_type": "loading",
    "outline": "loading",
    "quiet_transformers": "loading",
    "render_question": "processors",
    "settings_hash": "processors",
    "shares_prefix": "general",
    "video_token_count": "prompts",
    "weights_hash": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
