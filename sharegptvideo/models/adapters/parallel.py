"""One `hf:` model on several devices, a process for each.

Every batch goes whole to one process, which does with it what one device alone would do, so the
answers do not depend on how many devices there are.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from sharegptvideo._concurrency import limit_torch_threads
from sharegptvideo.errors import UserError
from sharegptvideo.models.adapters.hf import DEFAULT_ROWS, HfModel
from sharegptvideo.models.types import Answer, Question, Request

__all__ = ["ParallelModel", "device_names"]


def device_names(devices: Sequence[str]) -> list[str]:
    """Names of torch devices; `all` stands for every CUDA device.

    A device may be named twice: two processes then share it.

    Raises:
        UserError: a name that torch does not know, a device that is not there, or none at all.
    """
    import torch

    present = torch.cuda.device_count()
    names: list[str] = []
    for name in devices:
        if name == "all":
            if not present:
                raise UserError("devices all: no CUDA device here; name them, such as cpu")
            names += [f"cuda:{number}" for number in range(present)]
            continue
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise UserError(f"device {name!r}: write cuda:0, cpu or all") from error
        if device.type == "cuda" and (device.index or 0) >= present:
            raise UserError(f"device {name!r}: there are {present} CUDA devices")
        names.append(name)
    if not names:
        raise UserError("no device named; write cuda:0,cuda:1 or all")
    return names


class ParallelModel:
    """An `HfModel` in a process for each device; `answer` may be called from several threads."""

    needs_frames = True

    def __init__(self, name: str, *, devices: Sequence[str], rows: int = DEFAULT_ROWS) -> None:
        """Check as `HfModel` does; the processes start with the first `answer`.

        Raises:
            UserError: see `HfModel`.
        """
        self._local = HfModel(name, rows=rows)
        self.spec, self.frames = self._local.spec, self._local.frames
        self.workers = len(devices)
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for device in devices:
            self._free.put(_Worker(name, device, rows, self.workers))

    def describe(self) -> dict[str, Any]:
        """What the model on one device says: the number of devices changes no answer."""
        return self._local.describe()

    def check(
        self, questions: Sequence[Question], every: Iterable[Question]
    ) -> dict[str, dict[str, Any]]:
        """As on one device."""
        return self._local.check(questions, every)

    def render(self, prompt: str) -> str:
        """As on one device."""
        return self._local.render(prompt)

    def answer(
        self, batch: Sequence[Request], *, max_new_tokens: int
    ) -> Iterator[tuple[int, Answer]]:
        """Have a free process answer the batch; waits for one.

        Raises:
            UserError: the process's own, or it has ended.
        """
        worker = self._free.get()
        try:
            answers = worker.ask(batch, max_new_tokens)
        finally:
            self._free.put(worker)
        yield from enumerate(answers)


class _Worker:
    """A process with the model on one device, spoken to by pickles over its pipes.

    Not `multiprocessing`: it would run a user's script again in each process unless the script
    is guarded.
    """

    def __init__(self, name: str, device: str, rows: int, processes: int) -> None:
        self._settings = (name, device, rows, processes)
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, batch: Sequence[Request], max_new_tokens: int) -> list[Answer]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, (list(batch), max_new_tokens))
            found = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = process.wait()
            self._process = None
            name, device, *_ = self._settings
            raise UserError(
                f"model hf:{name}: its process on {device} ended with code {code};"
                " what it wrote is above; run again to go on",
                exit_code=1,
            ) from error
        if isinstance(found, UserError):
            raise found
        return list(found)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            name, device, rows, processes = self._settings
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, name, device, str(rows), str(processes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the process that asks
            )
            weakref.finalize(self, _end, self._process)
        return self._process


def _end(process: subprocess.Popen[bytes]) -> None:
    """A busy one is not waited for. Where this process is killed, the end of its input ends it."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what is not sent has no reader any more
                pipe.close()
    process.wait()


def _write(pipe: IO[bytes], message: object) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _serve(name: str, device: str, rows: int, processes: int) -> None:
    """Answer batches from stdin until it ends; what libraries print goes to stderr.

    `processes` such as this one share the machine's cores.
    """
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if device == "cpu":
        limit_torch_threads(processes=processes)
    model = HfModel(name, device=device, rows=rows)
    while True:
        try:
            batch, max_new_tokens = pickle.load(requests)
        except EOFError:
            return
        reply: object
        try:
            found = dict(model.answer(batch, max_new_tokens=max_new_tokens))
            reply = [found[position] for position in range(len(batch))]
        except UserError as error:
            reply = error
        with contextlib.suppress(BrokenPipeError):  # whoever asked is gone; so is stdin
            _write(replies, reply)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
