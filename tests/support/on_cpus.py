"""The command line under a launcher, with what shards models allowed on CPUs.

accelerate shards models on GPUs only: on a CPU it takes ACCELERATE_USE_FSDP for a mistake and
trains with DDP. torch's FSDP2 itself runs on CPUs with gloo, so tests switch it on.
"""

from __future__ import annotations

import os
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

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


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        AcceleratorState.__init__ = _with_fsdp  # type: ignore[method-assign]
        AcceleratorState.distributed_type = property(_kind, _set_kind)
    main()
