"""Models whose weights are spread over processes (FSDP2, DeepSpeed): units, and saving whole."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

__all__ = ["layer_names", "prepare_shards", "save_whole"]


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


def prepare_shards(accelerator: Any, model: Any) -> None:
    """Let FSDP gather weights layer by layer, and the head's before each forward pass.

    Call it when the model's `forward` is as it is to be, before training. TRL's fused head reads
    the head's weights without calling it, so FSDP does not gather them. TRL 1.16 then does, in a
    way that leaves each process with the gradient of its own rows alone. Gathered by FSDP, their
    gradient is summed over the processes like any other.
    """
    accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = layer_names(model)
    inner = model.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        head = self.get_output_embeddings()
        if not isinstance(head, FSDPModule):
            return inner(*args, **kwargs)
        head.unshard()
        output = inner(*args, **kwargs)
        if not torch.is_grad_enabled():  # else the backward pass needs it, and gives it back
            head.reshard()
        return output

    model.forward = types.MethodType(forward, model)


def save_whole(trainer: Any, folder: Path) -> None:
    """Write the trained model as one that `from_pretrained` reads, whatever it was spread over.

    Every process has to call this; the first one writes.
    """
    if not trainer.is_fsdp_enabled:
        trainer.save_model(str(folder))
        return
    # `save_model` writes nothing where checkpoints are kept in shards.
    weights = trainer.accelerator.get_state_dict(trainer.model)
    # What gloo has gathered may still be on its way: a copy waits for it.
    trainer._save(str(folder), {name: weight.clone() for name, weight in weights.items()})
