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
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from sharegptvideo._concurrency import limit_torch_threads
from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Model, Request, SamplingParams

if TYPE_CHECKING:
    from sharegptvideo.models.local import LocalModel

__all__ = ["ParallelModel", "device_names"]

# Texts, error and scores of options of an answer.
_Reply = tuple[tuple[str, ...], str | None, tuple[float, ...]]


def device_names(devices: Sequence[str]) -> list[str]:
    """Return names of torch devices; `all` stands for every CUDA device.

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


class ParallelModel(Model):
    """A local model in a process for each device; `generate` may be called from several threads."""

    def __init__(
        self, local: LocalModel, name: str, *, devices: Sequence[str], batch_size: int | None
    ) -> None:
        """Prepare the processes, which start with the first `generate`.

        Args:
            local: the model on one device, which stays without weights.
            name: folder or Hub id.
            devices: one for each process.
            batch_size: how many answers each decodes at once; see `LocalModel`.
        """
        self._local = local
        self.spec, self.frames = local.spec, local.frames
        self.workers, self.width = len(devices), local.width
        self.scores_options = local.scores_options
        self.obeys, self.most_frames = local.obeys, local.most_frames
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for device in devices:
            self._free.put(_Worker(local, name, device, batch_size, self.workers))

    def describe(self) -> dict[str, Any]:
        """Describe the model on one device: the number of devices changes no answer."""
        return self._local.describe()

    def render(self, prompt: str) -> str:
        """Render as on one device."""
        return self._local.render(prompt)

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Have a free process answer the requests; waits for one.

        Raises:
            UserError: the process's own, or it has ended.
        """
        worker = self._free.get()
        try:
            answers = worker.ask(requests, params)
        finally:
            self._free.put(worker)
        for request, (texts, error, scores) in zip(requests, answers, strict=True):
            yield Answer(request, texts, error, option_scores=scores)


class _Worker:
    """A process with the model on one device; requests and answers are pickled over its pipes.

    Not `multiprocessing`: it would run a user's script again in each process unless the script
    is guarded.
    """

    def __init__(
        self,
        local: LocalModel,
        name: str,
        device: str,
        batch_size: int | None,
        processes: int,
    ) -> None:
        self._name, self._device, self._processes = name, device, processes
        self._opened = type(local), name, batch_size, local.settings
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, requests: Sequence[Request], params: SamplingParams) -> list[_Reply]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, (list(requests), params))
            reply = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = process.wait()
            self._process = None
            raise UserError(
                f"model hf:{self._name}: its process on {self._device} ended with code {code};"
                " what it wrote is above; run again to go on",
                exit_code=1,
            ) from error
        if isinstance(reply, UserError):
            raise reply
        return list(reply)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, self._device, str(self._processes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the process that asks
            )
            weakref.finalize(self, _end, self._process)
            assert self._process.stdin is not None
            _write(self._process.stdin, self._opened)
        return self._process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, busy or not; where this one is killed, the end of its input ends it."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what is not sent has no reader any more
                pipe.close()
    process.wait()


def _write(pipe: IO[bytes], message: object) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:
    """Return the next message; None where the caller is gone, in the middle of one even."""
    try:
        return pickle.load(pipe)
    except (EOFError, pickle.UnpicklingError):  # the second: cut short
        return None


def _serve(device: str, processes: int) -> None:
    """Answer batches from stdin until it ends; what libraries print goes to stderr.

    `processes` such as this one share the machine's cores.
    """
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if device == "cpu":
        limit_torch_threads(processes=processes)
    opened = _read(requests)
    if opened is None:
        return
    local, name, batch_size, settings = opened
    model: LocalModel = local(name, device=device, batch_size=batch_size, settings=settings)
    while (message := _read(requests)) is not None:
        batch, params = message
        reply: list[_Reply] | UserError
        try:
            reply = [
                (answer.texts, answer.error, answer.option_scores)
                for answer in model.generate(batch, params)
            ]
        except UserError as error:
            reply = error
        with contextlib.suppress(BrokenPipeError):  # the caller is gone; so is stdin
            _write(replies, reply)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
