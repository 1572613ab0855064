"""The tasks as lmms-eval takes them, so that the models it has adapters for run on them.

```
lmms-eval --include_path "$(python -m sharegptvideo.eval.lmms_eval_tasks)" --tasks msvd_qa ...
```

The questions, prompts, judge and statistics are those of `sharegptvideo eval`; lmms-eval loads the
model and asks it. Its tasks have no options, so what the command line would say is said by the
environment: see `Settings`. `predictions:` reads the sample logs, to judge the same answers anew.
"""

from __future__ import annotations

from pathlib import Path

from sharegptvideo._shipped import shipped

__all__ = ["folder"]


def folder() -> Path:
    """The folder to give to lmms-eval's `--include_path`."""
    return shipped("eval/lmms_eval_tasks")
