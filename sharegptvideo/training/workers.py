"""Loader workers: clips decoded ahead of the steps, by processes that end with the training.

They start by `forkserver`: forked from a process that has imported what they need and holds
neither CUDA nor threads, which a fork of the training itself would inherit in the middle of their
work; and in milliseconds, where `spawn` takes seconds and 400 MB a worker for its own imports.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset, get_worker_info

from sharegptvideo.errors import UserError
from sharegptvideo.training.launch import start_worker_server
from sharegptvideo.training.recipes import DataSource

__all__ = ["CheckedCollator", "CheckedRows", "batches_of", "loader_arguments", "worker_faults"]

_DIED = "DataLoader worker"  # how torch's message begins
_KILLED = "killed by signal"  # in it where a worker did not end by itself


def loader_arguments(data: DataSource) -> dict[str, Any]:
    """Return what TrainingArguments is to have about a recipe's workers."""
    if data.workers == 0:
        return {}
    start_worker_server()
    return {
        "dataloader_num_workers": data.workers,
        "dataloader_prefetch_factor": data.prefetch,
        "dataloader_persistent_workers": True,
        "dataloader_multiprocessing_context": "forkserver",
    }


def _leave_sigterm_to_parent() -> None:
    """End this worker on SIGTERM from its training, and on no other.

    Not by a handler, in whose place torch puts one of its own.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while True:
            sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
            parent = multiprocessing.parent_process()
            if parent is None or sender == parent.pid:
                os._exit(0)  # a loader's worker, a process of its own: nothing in it is kept

    threading.Thread(target=wait, daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of a worker on its way: raised there, it would come out as its whole traceback."""

    message: str
    exit_code: int

    @classmethod
    def of(cls, error: UserError) -> _Failure:
        return cls(str(error), error.exit_code)


class CheckedRows(Dataset[Any]):
    """Rows of a dataset; in a worker, what the user can fix is handed on instead of raised."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        try:
            return self.rows[number]
        except UserError as error:
            if get_worker_info() is None:
                raise
            return _Failure.of(error)


class CheckedCollator:
    """A collator; in a worker, what the user can fix is handed on instead of raised."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Unpickled in a worker that starts (and has its name, but not its parent yet): Ctrl-C and
        # SIGTERM are the training's to handle, which needs its workers until the step is done.
        if multiprocessing.current_process().name != "MainProcess":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _leave_sigterm_to_parent()

    def __call__(self, rows: list[Any]) -> Any:
        """Return the batch, or in a worker what failed under `failed`."""
        failed = [row for row in rows if isinstance(row, _Failure)]
        if failed:
            return {"failed": failed[0]}
        try:
            return self.collate(rows)
        except UserError as error:
            if get_worker_info() is None:
                raise
            return {"failed": _Failure.of(error)}


def batches_of(loaded: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader.

    Raises:
        UserError: what a worker could not do.
    """
    for batch in loaded:
        failure = batch.get("failed")
        if failure is not None:
            raise UserError(failure.message, exit_code=failure.exit_code)
        yield batch


def _without_guard() -> str | None:
    """Return the script that runs, if workers run it too and nothing in it prevents that."""
    main = sys.modules["__main__"]
    file = vars(main).get("__file__")
    if vars(main).get("__spec__") is not None or file is None:
        return None
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return None if "__main__" in text else str(file)


@contextlib.contextmanager
def worker_faults(data: DataSource) -> Iterator[None]:
    """Report a worker that died in one line, where torch does so in many; end those still there.

    Left to the garbage collector, a loader whose training was stopped waits five seconds for each
    worker: the thread that would hand them the end is collected first.
    """
    before = multiprocessing.active_children()
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(_DIED):
            raise
        script = _without_guard()
        if _KILLED not in str(error) and script is not None:
            raise UserError(
                f"a loader worker died as it began: it runs {script} again, which has no "
                '`if __name__ == "__main__":`; put what the script does below such a line, or '
                "set data.workers=0",
                exit_code=1,
            ) from error
        raise UserError(
            f"a loader worker died (no memory left?): lower data.workers ({data.workers}) or "
            f"data.prefetch ({data.prefetch}), and run the same command again to go on",
            exit_code=1,
        ) from error
    finally:
        for worker in multiprocessing.active_children():
            if worker not in before:
                worker.terminate()
                worker.join()
