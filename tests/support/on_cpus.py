"""The command line under a launcher, with what shards models allowed on CPUs.

accelerate shards models on GPUs only: on a CPU it takes ACCELERATE_USE_FSDP for a mistake and
trains with DDP. torch's FSDP2 itself runs on CPUs with gloo, so tests switch it on.

With `KILLED_AT_STEP` in the environment, launcher and processes are killed in that step.
"""

from __future__ import annotations

import os
from typing import Any

import psutil
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from sharegptvideo import training
from sharegptvideo._concurrency import Progress
from sharegptvideo.cli import main

_init = AcceleratorState.__init__


def _with_fsdp(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin


def _kind(self: Any) -> DistributedType:
    found: DistributedType = self.__dict__["distributed_type"]
    return DistributedType.FSDP if "fsdp_plugin" in self.__dict__ else found


def _set_kind(self: Any, kind: DistributedType) -> None:
    self.__dict__["distributed_type"] = kind


def _kill_all_at(step: int) -> None:
    """Have the first process kill -9 the launcher and all its processes: none can say a word."""
    run = training.run_recipe

    def killed(recipe: Any, *, progress: Progress, **more: Any) -> Any:
        def at_step(done: int, total: int, what: str) -> None:
            progress(done, total, what)
            if what.startswith("training") and done == step:
                launcher = psutil.Process().parent()
                assert launcher is not None
                others = [one for one in launcher.children() if one.pid != os.getpid()]
                for process in (launcher, *others, psutil.Process()):
                    process.kill()

        return run(recipe, progress=at_step, **more)

    training.run_recipe = killed


if __name__ == "__main__":
    if "KILLED_AT_STEP" in os.environ:
        _kill_all_at(int(os.environ["KILLED_AT_STEP"]))
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        AcceleratorState.__init__ = _with_fsdp  # type: ignore[method-assign]
        AcceleratorState.distributed_type = property(_kind, _set_kind)
    main()
