"""Checkpoints of transformers, in a folder or on the Hub: files, configuration, weights."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import read_json, read_json_object
from sharegptvideo._network import check_hub_variables
from sharegptvideo._text import plural, shortened
from sharegptvideo.errors import UserError
from sharegptvideo.models.digests import file_digests

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ADAPTER_CONFIG",
    "AUTHORS",
    "IMAGE_ONLY",
    "adapter_base",
    "add_no_end",
    "check_layout",
    "check_tokens",
    "checkpoint_folder",
    "indexed_files",
    "load_model",
    "load_tokenizer",
    "loading_cause",
    "model_type",
    "outline",
    "quiet_transformers",
    "weights_hash",
]

_CLIP_AND_LLAMA = (r".*\.embeddings\.position_ids", r".*\.rotary_emb\.inv_freq")
_LEFTOVERS = {
    "llava_hound": _CLIP_AND_LLAMA,
    "llava_next_video": _CLIP_AND_LLAMA,
    "llava_onevision": _CLIP_AND_LLAMA,
    "video_llava": _CLIP_AND_LLAMA,
}
"""By architecture, what old checkpoints hold beside weights: it follows from the config.

transformers knows others by class, and leaves those out of its report.
"""

AUTHORS = ("llava_llama", "llava")
"""`model_type` in the config.json of LLaVA-Hound's and Video-LLaVA's authors."""

IMAGE_ONLY = (
    "names no mm_video_tower, so it is an image-only LLaVA; a model of clips is needed, such as "
    "ShareGPTVideo/LLaVA-Hound-DPO"
)
"""What is said of a checkpoint in the authors' layout that is none of theirs."""

ADAPTER_CONFIG = "adapter_config.json"
"""What peft leaves where there are adapters in place of a whole model."""

_CONFIG = ("config.json", ADAPTER_CONFIG)
_ALL = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def checkpoint_folder(path: str | Path, files: tuple[str, ...] = _ALL) -> Path:
    """Return the folder `path`, or the local copy of the Hub id `path`, downloaded once.

    Transformers given a Hub id asks for one file after the other, and without a network tries
    each six times; this asks once, and without a network takes what an earlier call has left.

    Args:
        path: a folder, or a Hub id.
        files: patterns of the files that have to be there.

    Raises:
        UserError: no such folder, and no such repository or no way to reach it.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    check_hub_variables()
    lacking = f"model {path}: no checkpoint there; it is no folder"
    try:
        return Path(snapshot_download(str(path), allow_patterns=list(files)))
    except HFValidationError as error:
        raise UserError(f"{lacking} and cannot be a Hub id") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{lacking} and not on the Hub, or not for you") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx2.HTTPError) as error:
        cause = type(error.__cause__ or error).__name__
        raise UserError(f"{lacking}, and the Hub cannot be reached ({cause})") from error


def adapter_base(folder: Path) -> str | None:
    """Return the name of the model that adapters in `folder` belong to; None without adapters.

    It is empty where they name none.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    return str(read_json_object(file).get("base_model_name_or_path") or "")


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
    """Return the architecture of a checkpoint, as transformers calls it: `video_llava`.

    Args:
        path: a folder, or a Hub id.

    Raises:
        UserError: nothing there, or a config that transformers cannot use.
    """
    folder = check_layout(path)
    from transformers import AutoConfig  # after what needs no seconds to be found wrong

    try:
        return str(AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model {path}: its config.json cannot be used ({loading_cause(error)})"
        ) from error


def check_layout(path: str) -> Path:
    """Return the folder of a checkpoint that is a whole model of transformers; needs no torch.

    Args:
        path: a folder, or a Hub id.

    Raises:
        UserError: nothing there, adapters alone, or the authors' layout.
    """
    folder = checkpoint_folder(path, _CONFIG)
    if not (folder / "config.json").is_file():
        base = adapter_base(folder)
        if base is not None:
            raise UserError(
                f"model {path}: adapters of {base or 'a base not named'}, not a model; make one "
                f"with sharegptvideo.training.merge_adapters({str(path)!r}, OUTPUT), or train with "
                "lora.merge=true"
            )
        raise UserError(f"model {path}: no checkpoint there; config.json is not in it")
    layout = read_json_object(folder / "config.json")
    if layout.get("model_type") in AUTHORS and any(name.startswith("mm_") for name in layout):
        if not layout.get("mm_video_tower"):
            raise UserError(f"model {path}: {IMAGE_ONLY}")
        raise UserError(
            f"model {path}: is in the authors' layout; convert it first: "
            f"sharegptvideo model convert {path} --to DIR"
        )
    return folder


def loading_cause(error: Exception) -> str:
    """Return in one line why transformers cannot load a part of a model.

    Neither code that comes with a model nor that of a pickle is ever run.
    """
    words = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in words or "custom code" in words:
        return (
            "it needs code that comes with it, which is never run here; take an architecture of "
            "transformers, or python:module:function for code of your own"
        )
    if isinstance(error, pickle.UnpicklingError):
        return (
            "a pickle that is broken or holds more than weights, whose code is never run here; "
            "take the model's safetensors files"
        )
    return str(error).strip().splitlines()[0] if str(error).strip() else words


def load_model(
    path: str,
    *,
    dtype: str | torch.dtype,
    weights: bool = True,
    device: str | torch.device | None = None,
) -> Any:
    """Load a video model from a folder or Hub id; without `weights` see `outline`.

    Args:
        path: a folder, or a Hub id.
        dtype: of the weights, as they are put in their places; "auto": as saved.
        weights: False: shapes alone.
        device: where each weight goes from its file, by several threads; default: the CPU, where
            weights of the saved type stay parts of the file in memory.

    Raises:
        UserError: nothing there, no model that answers about videos, no weights, or not all of
            them.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    if not weights:
        return outline(path, dtype=dtype)
    model_type(path)  # raises where there is no checkpoint
    folder = checkpoint_folder(path)
    indexed_files(folder, path)  # raises where transformers would read outside of the folder
    auto: Any = AutoModelForImageTextToText  # its loading is untyped
    try:
        with quiet_transformers():
            model, report = auto.from_pretrained(
                folder,
                dtype=dtype,
                device_map=None if device is None else {"": device},
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # `_check_whole` reports them all
            )
    # KeyError: an index without the total size
    except (OSError, SafetensorError, pickle.UnpicklingError, KeyError) as error:
        raise UserError(
            f"model {path}: the weights cannot be read ({loading_cause(error)})"
        ) from error
    _check_whole(path, report, str(model.config.model_type))
    return model


def indexed_files(folder: Path, path: str | Path) -> list[str]:
    """Return the names of the files that an index of weights lists; none without an index.

    Args:
        folder: the checkpoint's.
        path: of the checkpoint, for the message.

    Raises:
        UserError: the index lists no files, or one that is not in its folder.
    """
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if not (folder / index).is_file():
            continue
        content = read_json(folder / index)
        listed = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(listed, dict):
            raise UserError(f"{path}: {index} has no weight_map; download it again")
        for name in listed.values():
            if not isinstance(name, str) or name != Path(name).name or "\\" in name:
                raise UserError(
                    f"{path}: {index} lists {shortened(repr(name), 80)}, which is not the name of"
                    " a file beside it"
                )
        return sorted(set(listed.values()))
    return []


def _check_whole(path: str, report: Mapping[str, Any], architecture: str) -> None:
    """Refuse a checkpoint that lacks weights, or has some without a place.

    transformers draws what is missing at random, drops what has no place, and goes on.

    Args:
        path: of the checkpoint, for the message.
        report: the loading information of `from_pretrained`.
        architecture: whose leftovers may be there.

    Raises:
        UserError: how many weights are missing, or of other shapes, and where; or without a
            place, and the first of them.
    """
    advice = "a whole checkpoint is needed, with the config that it was saved with"
    mismatched = [name for name, *_ in report["mismatched_keys"]]
    for names, what in (
        (mismatched, "are of other shapes than its config says"),
        (list(report["missing_keys"]), "are not in its files"),
    ):
        if names:
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise UserError(
                f"model {path}: {len(names)} of its weights {what} ({', '.join(parts)}); {advice}"
            )
    known = _LEFTOVERS.get(architecture, ())
    homeless = sorted(
        name
        for name in report["unexpected_keys"]
        if not any(re.fullmatch(pattern, name) for pattern in known)
    )
    if homeless:
        raise UserError(
            f"model {path}: {plural(len(homeless), 'weight')} without a place in {architecture}, "
            f"the first of them {homeless[0]}; {advice}"
        )


def outline(path: str | Any, *, dtype: str | torch.dtype) -> Any:
    """Make the model of a checkpoint or a config on the meta device: shapes, no weights.

    Raises:
        UserError: nothing there, or a config that transformers cannot use.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

    kind: Any = AutoModelForImageTextToText  # its constructor is untyped
    if not isinstance(path, str):
        with torch.device("meta"):
            return kind.from_config(path, dtype=dtype, trust_remote_code=False)
    model_type(path)  # raises where there is no checkpoint
    folder = checkpoint_folder(path, _CONFIG)
    with torch.device("meta"), quiet_transformers():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = kind.from_config(config, dtype=dtype, trust_remote_code=False)
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
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model {path}: no tokenizer ({loading_cause(error)})") from error
    if "<video>" not in tokenizer.get_vocab():
        raise UserError(f"model {path}: its tokenizer has no <video> token")
    add_no_end(tokenizer)
    return tokenizer


def add_no_end(tokenizer: Any) -> None:
    """Let a tokenizer put nothing after what it encodes, where it was saved to put an end token.

    Such are those of many trainings. A prompt that ends with the end token gets no answer to the
    question in it. What the tokenizer puts before a text stays.
    """
    end, mark = tokenizer.eos_token_id, tokenizer.bos_token
    ids = tokenizer("a")["input_ids"]
    if end is None or ids[-1] != end:
        return
    begins = mark is not None and ids[0] == tokenizer.bos_token_id
    tokenizer.add_eos_token = False  # of tokenizers that are Python alone, and for those saved anew
    if not tokenizer.is_fast:
        return
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[mark, "$A"] if begins else ["$A"],
        special_tokens=[(mark, tokenizer.bos_token_id)] if begins else [],
    )


def check_tokens(path: str | Path, tokenizer: Any, rows: int) -> None:
    """Make sure that a model has embeddings for its tokenizer's tokens.

    A pad token may lack one, as where it was added to the tokenizer alone.

    Args:
        path: of the checkpoint, for the message.
        tokenizer: of transformers.
        rows: of the embeddings.

    Raises:
        UserError: the tokenizer is of another model.
    """
    outside = sorted(
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and number != tokenizer.pad_token_id
    )
    if outside:
        raise UserError(
            f"model {path}: {plural(len(outside), 'token')} of its tokenizer, the first of them "
            f"{outside[0][1]!r}, without an embedding (it has {rows:,}); take the tokenizer that "
            "was saved with these weights"
        )


def weights_hash(path: str | Path) -> str:
    """Hash the names and bytes of a checkpoint's safetensors files with SHA-256.

    Files that have not changed since the last time are not read again (see `file_digests`).

    Args:
        path: a folder, or a Hub id.

    Raises:
        UserError: nothing there, no safetensors files, or see `file_digests`.
    """
    files = sorted(checkpoint_folder(path).glob("*.safetensors"))
    if not files:
        raise UserError(f"model {path}: no safetensors files to hash")
    digest = hashlib.sha256()
    for file, sha256 in zip(files, file_digests(files), strict=True):
        digest.update(f"{file.name}\0{sha256}\n".encode())
    return digest.hexdigest()
