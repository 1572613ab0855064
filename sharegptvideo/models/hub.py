"""The folder of a checkpoint: one on this machine, or the local copy of a repository on the Hub."""

from __future__ import annotations

from pathlib import Path

from sharegptvideo._io import read_json
from sharegptvideo.errors import UserError

__all__ = ["ADAPTER_CONFIG", "CONFIG", "adapter_base", "checkpoint_folder"]

ADAPTER_CONFIG = "adapter_config.json"
"""What peft leaves where there are adapters in place of a whole model."""

CONFIG = ("config.json", ADAPTER_CONFIG)
_ALL = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def checkpoint_folder(path: str | Path, files: tuple[str, ...] = _ALL) -> Path:
    """`path` where it is a folder, else the local copy of the Hub id `path`, downloaded once.

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
    """The model that the adapters in `folder` belong to; None where there are none."""
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    return str(read_json(file).get("base_model_name_or_path"))
