"""Checkpoints from a folder or the Hub, and the hash that names their weights."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import sha256_file
from sharegptvideo.errors import UserError
from sharegptvideo.models.hub import CONFIG, adapter_base, checkpoint_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, VideoLlavaForConditionalGeneration

__all__ = [
    "REPORTED",
    "check_architecture",
    "check_whole",
    "load_model",
    "load_tokenizer",
    "model_type",
    "outline",
    "quiet_transformers",
    "weights_hash",
]

_MODEL_TYPE = "video_llava"

REPORTED: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Arguments by which `from_pretrained` gives what `check_whole` looks at, and does not raise."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and advice off stderr inside the block; errors show."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def model_type(path: str) -> str:
    """The architecture of a checkpoint, as transformers calls it: `video_llava`.

    Args:
        path: a folder, or a Hub id.

    Raises:
        UserError: nothing there, or a config that transformers cannot use.
    """
    from transformers import AutoConfig

    folder = checkpoint_folder(path, CONFIG)
    if not (folder / "config.json").is_file():
        base = adapter_base(folder)
        if base is not None:
            raise UserError(
                f"model {path}: adapters of {base}, not a model; make one with "
                f"sharegptvideo.training.merge_adapters({str(path)!r}, OUTPUT), or train with "
                "lora.merge=true"
            )
        raise UserError(f"model {path}: no checkpoint there; config.json is not in it")
    try:
        return str(AutoConfig.from_pretrained(folder).model_type)
    except (OSError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"model {path}: its config.json cannot be used ({cause})") from error


def check_architecture(path: str) -> None:
    """Make sure that `path`, a folder or a Hub id, is a Video-LLaVA.

    Raises:
        UserError: nothing there, or another architecture.
    """
    found = model_type(path)
    if found != _MODEL_TYPE:
        raise UserError(
            f"model {path}: architecture {found!r}; this path loads Video-LLaVA "
            f"({_MODEL_TYPE!r}) only"
        )


def load_model(
    path: str, *, dtype: str | torch.dtype, weights: bool = True
) -> VideoLlavaForConditionalGeneration:
    """Load a Video-LLaVA from a folder or Hub id; without `weights` its shapes alone (meta device).

    Raises:
        UserError: nothing there, another architecture, no weights, or not all of them.
    """
    from safetensors import SafetensorError
    from transformers import VideoLlavaForConditionalGeneration

    check_architecture(path)
    kind: Any = VideoLlavaForConditionalGeneration
    if not weights:
        return outline(path, dtype=dtype)  # type: ignore[no-any-return]  # of that architecture
    folder = checkpoint_folder(path)
    try:
        with quiet_transformers():
            model, found = kind.from_pretrained(folder, dtype=dtype, **REPORTED)
    except (OSError, SafetensorError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"model {path}: the weights cannot be read ({cause})") from error
    check_whole(path, found)
    return model  # type: ignore[no-any-return]  # through Any: its loading is untyped


def check_whole(path: str, found: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that lacks weights: transformers draws them at random and goes on.

    Args:
        found: the loading information of `from_pretrained`.

    Raises:
        UserError: how many weights are missing, or of other shapes, and where.
    """
    other = [name for name, *_ in found["mismatched_keys"]]
    for names, what in (
        (other, "are of other shapes than its config says"),
        (list(found["missing_keys"]), "are not in its files"),
    ):
        if names:
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise UserError(
                f"model {path}: {len(names)} of its weights {what} ({', '.join(parts)}); a whole "
                "checkpoint is needed, with the config that it was saved with"
            )


def outline(path: str | Any, *, dtype: str | torch.dtype) -> Any:
    """The model of a checkpoint's config, or of a config, on the meta device: shapes, no weights.

    Raises:
        UserError: nothing there, or a config that transformers cannot use.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

    kind: Any = AutoModelForImageTextToText  # its constructor is untyped
    if not isinstance(path, str):
        with torch.device("meta"):
            return kind.from_config(path, dtype=dtype)
    model_type(path)  # says what is wrong with it
    folder = checkpoint_folder(path, CONFIG)
    with torch.device("meta"), quiet_transformers():
        config = AutoConfig.from_pretrained(folder)
        model = kind.from_config(config, dtype=dtype)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved beside a model.

    Raises:
        UserError: there is none, or it has no `<video>` token.
    """
    from transformers import AutoTokenizer

    folder = checkpoint_folder(path)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"model {path}: no tokenizer ({cause})") from error
    if "<video>" not in tokenizer.get_vocab():
        raise UserError(f"model {path}: its tokenizer has no <video> token")
    return tokenizer


def weights_hash(path: str | Path) -> str:
    """SHA-256 over the names and bytes of a checkpoint's safetensors files.

    Args:
        path: a folder, or a Hub id.

    Raises:
        UserError: nothing there, or no safetensors files.
    """
    files = sorted(checkpoint_folder(path).glob("*.safetensors"))
    if not files:
        raise UserError(f"model {path}: no safetensors files to hash")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
