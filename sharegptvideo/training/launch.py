"""Several processes: how they are launched, what one of them does for all, how weights are spread.

`accelerate launch` and `torchrun` start the same command many times over. Rows are read, the run
folder written and figures printed by the first process; the others wait for it. A process that
fails ends them all: the launcher sees to that.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import types
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sharegptvideo._shipped import shipped
from sharegptvideo.errors import unknown_name

if TYPE_CHECKING:
    from torch import nn


__all__ = [
    "Processes",
    "config_about",
    "config_names",
    "config_path",
    "layer_names",
    "prepare_shards",
    "processes",
    "rank_of_environment",
    "save_whole",
    "start_worker_server",
]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Processes:
    """The place of this process: `rank` of `count`."""

    rank: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether it is this process that writes and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def first(self, action: Callable[[], _T]) -> _T | None:
        """Return what `action` gives in the first process; the others wait and get None."""
        result = action() if self.is_first else None
        self.wait()
        return result

    def largest(self, value: int) -> int:
        """Return the largest `value` of all processes, each of which has to ask."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed

        values = torch.tensor(value)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=_on_cpus())
        return int(values)


@functools.cache
def _on_cpus() -> Any:
    """Return the group of all processes over their CPUs: no GPU is waited for."""
    import torch.distributed

    return torch.distributed.new_group(backend="gloo")


def rank_of_environment() -> int:
    """Return the rank that a launcher gave this process, without torch; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def processes() -> Processes:
    """Return this process's place among those launched; the first call connects them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(0, 1)
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes)


_CONFIGS = "training/accelerate"


def config_names() -> list[str]:
    """Names that `train config` takes."""
    return sorted(file.stem for file in shipped(_CONFIGS).glob("*.yaml"))


def config_path(name: str) -> Path:
    """Return the file of a configuration, for `accelerate launch --config_file`.

    Raises:
        UserError: there is none of that name.
    """
    if name not in config_names():
        raise unknown_name("configuration", name, config_names())
    return shipped(_CONFIGS) / f"{name}.yaml"


def config_about(name: str) -> str:
    """Return the first sentence of a configuration's opening comment."""
    opening = config_path(name).read_text(encoding="utf-8").partition("\n#\n")[0]
    words = " ".join(line.removeprefix("#").strip() for line in opening.splitlines())
    return words.partition(". ")[0].rstrip(".")


def layer_names(model: nn.Module) -> list[str]:
    """Return the classes of a model's repeated layers, which transformers keeps on one device.

    A clip's tower and the language model both give theirs. Only what stands in a list of layers
    counts: the rest transformers names too, some of it not there in every model.
    """
    from torch import nn

    kept = set(getattr(model, "_no_split_modules", None) or ())
    classes = {
        type(layer).__name__
        for stack in model.modules()
        if isinstance(stack, nn.ModuleList)
        for layer in stack
    }
    return sorted(classes & kept)


def prepare_shards(accelerator: Any, model: Any) -> None:
    """Let FSDP gather weights layer by layer, and the head's before each forward pass.

    Call it when the model's `forward` is as it is to be, before training. TRL's fused head reads
    the head's weights without calling it, so FSDP does not gather them. TRL 1.16 then does, in a
    way that leaves each process with the gradient of its own rows alone. Gathered by FSDP, their
    gradient is summed over the processes like any other.
    """
    import torch
    from torch.distributed.fsdp import FSDPModule

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


# What a worker needs to begin; what is missing here, each of them imports for itself.
_IMPORTS = [
    "datasets",
    "sharegptvideo.training.collators",
    "sharegptvideo.training.families.video_llava",
    "sharegptvideo.training.streaming",
]


def start_worker_server() -> None:
    """Start the server of workers with SIGTERM blocked, which schedulers send to all of a job.

    Nothing happens where it runs already. It ends with this process in any case.
    """
    multiprocessing.set_forkserver_preload(_IMPORTS)
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
