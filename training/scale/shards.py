"""Models whose weights are spread over processes (FSDP2, DeepSpeed): units, and saving whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

__all__ = ["layer_names", "save_whole", "shard_layers"]


def layer_names(model: nn.Module) -> list[str]:
    """The classes of a model's repeated layers: those that transformers keeps on one device.

    A clip's tower and the language model both give theirs. Only what stands in a list of layers
    counts: the rest transformers names too, some of it not there in every model.
    """
    kept = set(getattr(model, "_no_split_modules", None) or ())
    found = {
        type(layer).__name__
        for stack in model.modules()
        if isinstance(stack, nn.ModuleList)
        for layer in stack
    }
    return sorted(found & kept)


def shard_layers(accelerator: Any, model: nn.Module) -> None:
    """Let FSDP gather the weights layer by layer; the rest of the model is one unit."""
    accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = layer_names(model)


def save_whole(trainer: Any, folder: Path) -> None:
    """Write the trained model as one that `from_pretrained` reads, whatever it was spread over.

    Every process has to call this; the first one writes.
    """
    if trainer.is_fsdp_enabled:
        # Checkpoints are written in shards; a model that others are to load is not.
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))
