"""`accelerate launch` whose processes are forked from the launcher: none imports torch anew.

All else is accelerate's and torchrun's: how configurations are read, the environment of each
process, the rendezvous, and what one process's end does to the others.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import torch.distributed.run as torchrun
from accelerate.commands.launch import main

_parsed = torchrun.config_from_args


def _process(*words: str) -> None:
    """Run `python -u -m MODULE ...` in a process that torchrun forked."""
    _, _, module, *arguments = words
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise


def _forking(arguments: Any) -> tuple[Any, Any, list[str]]:
    config, _, words = _parsed(arguments)
    config.start_method = "fork"
    return config, _process, words


if __name__ == "__main__":
    torchrun.config_from_args = _forking
    main()
