"""Which of a training's processes this is, and what one of them does for all.

`accelerate launch` and `torchrun` start the same command many times over. Rows are read, the run
folder written and figures printed by the first process; the others wait for it. A process that
fails ends them all: the launcher sees to that.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sharegptvideo._io import read_json, write_json

if TYPE_CHECKING:
    from datasets import Dataset

    from sharegptvideo.training.examples import DataReport

__all__ = ["Processes", "processes", "rank_of_environment", "rows_for_all"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process, `rank` of `count`."""

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
        """What `action` gives in the first process; the others wait and get None."""
        found = action() if self.is_first else None
        self.wait()
        return found

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
    """The rank that a launcher gave this process, without torch; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def processes() -> Processes:
    """This process among those that the launcher started; the first call connects them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(0, 1)
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes)


def rows_for_all(
    make: Callable[[], tuple[Dataset, DataReport]], shared: Path, *, mapped: bool = False
) -> tuple[Dataset, DataReport]:
    """Rows that the first process prepares and the others read, mapped, from `shared`.

    Tokenised once however many processes there are, and kept once in the memory of a machine.

    Args:
        shared: a folder that all processes see; left for the caller to remove.
        mapped: go by way of `shared` even if there is one process.
    """
    group = processes()
    if group.count == 1 and not mapped:
        return make()
    from datasets import Dataset, disable_progress_bars

    from sharegptvideo.training.examples import DataReport

    disable_progress_bars()  # for the rest of this process, which has bars of its own

    def write() -> None:
        dataset, report = make()
        dataset.save_to_disk(str(shared))
        write_json(shared / "report.json", asdict(report))

    group.wait()  # all have looked at the run's folder before the first one writes to it
    group.first(write)
    return Dataset.load_from_disk(str(shared)), DataReport(**read_json(shared / "report.json"))
