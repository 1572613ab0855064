"""Adapters on the language model: which layers get them, what is saved, the whole model at the end.

peft puts them in, and TRL knows them: the reference model is the policy without its adapters.
"""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sharegptvideo._io import follow_umask, read_json, sync_folder, write_json
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.models import load_model, quiet_transformers
from sharegptvideo.models.checkpoints import ADAPTER_CONFIG, adapter_base, checkpoint_folder

if TYPE_CHECKING:
    from sharegptvideo.training.recipes import Lora

__all__ = [
    "ADAPTER_WEIGHTS",
    "adapters",
    "finish_adapters",
    "has_adapters",
    "load_adapters",
    "merge_adapters",
]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_LANGUAGE_MODEL = "model.language_model"  # of every family here


def adapters(lora: Lora | None, model: Any) -> Any:
    """Return what TRL's trainers take as `peft_config`; None without `lora`.

    Raises:
        UserError: a target that no linear layer of the language model is called by.
    """
    if lora is None:
        return None
    from peft import LoraConfig

    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if name.startswith(f"{_LANGUAGE_MODEL}.") and isinstance(module, torch.nn.Linear)
    }
    for target in lora.targets:
        if target not in names:
            raise unknown_name("lora.targets: linear layer", target, sorted(names))
    targets = "|".join(map(re.escape, lora.targets))
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # any number scales
        lora_dropout=lora.dropout,
        target_modules=rf"{re.escape(_LANGUAGE_MODEL)}\..*\.({targets})",
    )


def has_adapters(model: Any) -> bool:
    """Whether a model is one that peft has put adapters into."""
    return hasattr(model, "peft_config")


def load_adapters(folder: str | Path, model: Any) -> None:
    """Put a checkpoint's adapters into a model that has some of the same shapes."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    loaded: Any = set_peft_model_state_dict(model, load_file(Path(folder) / ADAPTER_WEIGHTS))
    if loaded.unexpected_keys:
        raise UserError(f"checkpoint {folder}: its adapters are of another model")


def finish_adapters(base: str, folder: Path, *, merge: bool) -> None:
    """Make of the adapters that peft wrote to `folder` what a training leaves there.

    That is a whole model where they `merge`, made of the base's weights as they are on disk, in
    their own type, so nothing of how training held them is in it; else the adapters alone, which
    name `base`.
    """
    (folder / "README.md").unlink(missing_ok=True)  # peft's card, a form to fill in
    config = read_json(folder / ADAPTER_CONFIG)
    # Absolute, else it is another folder for who reads it from elsewhere.
    place = str(Path(base).resolve()) if Path(base).is_dir() else base
    write_json(folder / ADAPTER_CONFIG, {**config, "base_model_name_or_path": place})
    if merge:
        _write_merged(base, folder, folder)
        (folder / ADAPTER_CONFIG).unlink()
        (folder / ADAPTER_WEIGHTS).unlink()


def merge_adapters(
    folder: str | Path, output: str | Path, *, base: str | Path | None = None
) -> Path:
    """Write the whole model that the adapters in `folder` make of their base, as `lora.merge` does.

    Args:
        folder: what a training with `lora.merge: false` left.
        output: a folder that is not there yet.
        base: the base's folder or Hub id; default: what the adapters' `adapter_config.json` names.

    Raises:
        UserError: no adapters there, no base where they say it is, or `output` exists.
    """
    folder, output = Path(folder), Path(output)
    named = adapter_base(folder)
    if named is None:
        raise UserError(f"adapters {folder}: no {ADAPTER_CONFIG} in it")
    base = named if base is None else str(base)
    if output.exists():
        raise UserError(f"output {output}: exists; give another one")
    try:
        checkpoint_folder(base)
    except UserError as error:
        raise UserError(
            f"adapters {folder}: their {ADAPTER_CONFIG} names the base {named!r}: {error}; name "
            "another with merge_adapters(..., base=PATH)"
        ) from error
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in folder.iterdir():
        if file.suffix in {".json", ".jinja", ".txt", ".model"} and file.name not in _OF_ADAPTERS:
            shutil.copyfile(file, part / file.name)
    _write_merged(base, folder, part)
    follow_umask(part.iterdir())
    part.replace(output)
    sync_folder(output.parent)
    return output


_OF_ADAPTERS = {ADAPTER_CONFIG, "run.json"}  # run.json is about the training, hashes and all


def _write_merged(base: str, folder: Path, to: Path) -> None:
    from peft import PeftModel

    with warnings.catch_warnings(), quiet_transformers():
        # peft asks transformers 5.23 for gradient checkpointing by its old name.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
        model = load_model(base, dtype="auto")
        PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(to)
