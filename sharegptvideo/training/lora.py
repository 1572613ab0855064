"""Adapters on the language model: which layers get them, what is saved, the whole model at the end.

peft puts them in, and TRL knows them: the reference model is the policy without its adapters.
"""

from __future__ import annotations

import pickle
import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sharegptvideo._io import follow_umask, os_errors, read_json_object, sync_folder, write_json
from sharegptvideo._text import plural
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.models import load_model, outline, quiet_transformers
from sharegptvideo.models.checkpoints import (
    ADAPTER_CONFIG,
    adapter_base,
    checkpoint_folder,
    loading_cause,
)

if TYPE_CHECKING:
    from peft import LoraConfig

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
    """Put the adapters in `folder` into a model that has some of the same names and shapes.

    Raises:
        UserError: they cannot be read, or are not those of the model, one for one. peft leaves out
            what has no place, and leaves untrained what the file lacks.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    weights = _adapter_weights(Path(folder))
    places: Any = get_peft_model_state_dict(model)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    others = {n for n in weights if n in places and shapes[n] != tuple(places[n].shape)}
    for names, what in (
        (weights.keys() - places.keys(), "have no place in the model"),
        (places.keys() - weights.keys(), "are not in the file"),
        (others, "are of other shapes than the model's"),
    ):
        if names:
            raise UserError(
                f"adapters {folder}: {len(names)} of {plural(len(weights), 'weight')} {what}, the "
                f"first of them {min(names)}; they are of another base, or not whole"
            )
    set_peft_model_state_dict(model, weights)


def _adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pickled = folder / "adapter_model.bin"  # what peft wrote in its first year
    try:
        if (folder / ADAPTER_WEIGHTS).is_file() or not pickled.is_file():
            return load_file(folder / ADAPTER_WEIGHTS)
        weights = torch.load(pickled, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(
            f"adapters {folder}: the weights cannot be read ({loading_cause(error)})"
        ) from error
    if not all(isinstance(value, torch.Tensor) for value in dict(weights).values()):
        raise UserError(f"adapters {folder}: {pickled.name} holds something else than weights")
    return dict(weights)


def finish_adapters(base: str, folder: Path, *, merge: bool) -> None:
    """Make of the adapters that peft wrote to `folder` what a training leaves there.

    That is a whole model where they `merge`, made of the base's weights as they are on disk, in
    their own type, so nothing of how training held them is in it; else the adapters alone, which
    name `base`.
    """
    (folder / "README.md").unlink(missing_ok=True)  # peft's card, a form to fill in
    config = read_json_object(folder / ADAPTER_CONFIG)
    # Absolute, else it is another folder for who reads it from elsewhere.
    place = str(Path(base).resolve()) if Path(base).is_dir() else base
    kind = type(outline(base, dtype="float32"))  # on the meta device
    made_for = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
    config |= {"base_model_name_or_path": place, "auto_mapping": made_for}
    write_json(folder / ADAPTER_CONFIG, config)
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
    if not base:
        raise UserError(
            f"adapters {folder}: their {ADAPTER_CONFIG} names no base; give it with "
            "merge_adapters(..., base=PATH)"
        )
    try:
        checkpoint_folder(base)
    except UserError as error:
        raise UserError(
            f"adapters {folder}: their {ADAPTER_CONFIG} names the base {named!r}: {error}; name "
            "another with merge_adapters(..., base=PATH)"
        ) from error
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with os_errors(output):
        part.mkdir(parents=True)
    try:
        for file in folder.iterdir():
            if file.suffix in _SETTINGS and file.name not in _OF_ADAPTERS:
                shutil.copyfile(file, part / file.name)
        _write_merged(base, folder, part)
        follow_umask(part.iterdir())
        part.replace(output)
    except BaseException:  # Ctrl-C too: no part of a model is left, then it is raised on
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(output.parent)
    return output


_SETTINGS = {".json", ".jinja", ".txt", ".model"}
_OF_ADAPTERS = {ADAPTER_CONFIG, "run.json"}  # run.json is about the training, hashes and all


def _write_merged(base: str, folder: Path, to: Path) -> None:
    from peft import get_peft_model

    config = _lora_config(folder)
    with warnings.catch_warnings(), quiet_transformers():
        # peft asks transformers 5.23 for gradient checkpointing by its old name.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
        model = load_model(base, dtype="auto")
        made_for = (config.auto_mapping or {}).get("base_model_class", type(model).__name__)
        if made_for != type(model).__name__:
            raise UserError(
                f"adapters {folder}: are for a {made_for}, and the base {base} is a "
                f"{type(model).__name__}"
            )
        config.base_model_name_or_path = base  # else peft warns that it is another
        try:
            adapted: Any = get_peft_model(model, config)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"adapters {folder}: cannot be put into {base} ({loading_cause(error)})"
            ) from error
        load_adapters(folder, adapted)
        adapted.merge_and_unload().save_pretrained(to)


def _lora_config(folder: Path) -> LoraConfig:
    from peft import LoraConfig

    kind = read_json_object(folder / ADAPTER_CONFIG).get("peft_type")
    if kind != "LORA":
        raise UserError(f"adapters {folder}: of kind {kind}; only LORA can be merged here")
    try:
        config: LoraConfig = LoraConfig.from_pretrained(str(folder))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"adapters {folder}: their {ADAPTER_CONFIG} cannot be used ({loading_cause(error)})"
        ) from error
    return config
