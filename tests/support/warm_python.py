"""Commands in processes of their own that need not import torch, transformers and TRL first.

Those imports take six seconds of processor, more than most of what tests run. A server imports
them once and forks for each command. The fork is the command's process in all that a user or a
scheduler sees: arguments, environment, working folder, streams, session, signals and exit code.
What has to be seen of a start itself (imports, `python -m`) is tested with `subprocess`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

__all__ = ["Command", "WarmPython"]

ROOT = Path(__file__).parents[2]
_IMPORTS = (
    "sharegptvideo.cli",
    "sharegptvideo.eval",
    "sharegptvideo.training.sft",
    "sharegptvideo.training.dpo",
    "sharegptvideo.training.trainers",
    "transformers.models.video_llava.modeling_video_llava",
    "trl.trainer.dpo_trainer",
    "trl.trainer.sft_trainer",
)
# One thread each: torch reads the number when it is imported.
_SETTINGS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Command:
    """A running command, as `subprocess.Popen` gives one with `text=True`.

    Attributes:
        pid: of the command's process.
        returncode: its exit code, or minus the signal that ended it; None while it runs.
    """

    def __init__(self, report: IO[str], stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self._report, self._streams = report, (stdout, stderr)
        begun = report.readline()
        assert begun, "the server of warm Pythons has ended; its stderr says why"
        self.pid = int(begun)
        self.returncode: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with self._report:
            self.returncode = int(self._report.readline() or -signal.SIGKILL)
        self._ended.set()

    def poll(self) -> int | None:
        """Return the exit code, None while the command runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command's end, as `subprocess.Popen.wait` does."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(["command"], timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it writes to stdout and stderr, once it has ended."""
        texts = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            with stream:
                texts[number] = stream.read()

        readers = [
            threading.Thread(target=read, args=(number, stream), daemon=True)
            for number, stream in enumerate(self._streams)
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class WarmPython:
    """The server, seen from the tests; it ends with them."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm_python", str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **_SETTINGS},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def start(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        new_session: bool = False,
    ) -> Command:
        """Start `python WORDS`, `-m MODULE ...` or `-c CODE ...`, without waiting for it.

        Args:
            env: what the environment has beside that of the tests.
            new_session: whether it leads a process group, to which signals can be sent.
        """
        request = {
            "words": [str(word) for word in words],
            "env": {**os.environ, **_SETTINGS, **(env or {})},
            "cwd": str(Path.cwd()),
            "new_session": new_session,
        }
        (out, out_end), (err, err_end), (report, report_end) = os.pipe(), os.pipe(), os.pipe()
        ends = [out_end, err_end, report_end]
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], ends)
        finally:
            for end in ends:
                os.close(end)
        return Command(*(os.fdopen(end, encoding="utf-8") for end in (report, out, err)))

    def run(
        self, *words: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` to its end; see `start`."""
        command = self.start(*words, env=env)
        out, err = command.communicate()
        return subprocess.CompletedProcess([*map(str, words)], command.wait(), out, err)

    def close(self) -> None:
        """End the server; commands that still run go on."""
        self._control.close()
        self._server.wait()


def _request(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and return it in the fork; in the server None, when tests have ended.

    The server has one thread: a fork would have none of the others, but their locks.
    """
    running: dict[int, tuple[int, int]] = {}  # pidfd: process, where its end is reported
    waiting = selectors.DefaultSelector()
    waiting.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is not control:
                process, report = running.pop(key.fd)
                _, status = os.waitpid(process, 0)
                os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
                waiting.unregister(key.fd)
                os.close(key.fd)
                os.close(report)
                continue
            content, ends, _, _ = socket.recv_fds(control, 1 << 20, 3)
            if not content:
                return None
            out, err, report = ends
            process = os.fork()
            if process == 0:
                os.dup2(out, 1)
                os.dup2(err, 2)
                waiting.close()
                control.close()
                for end in (*ends, *running, *(one for _, one in running.values())):
                    os.close(end)
                found: dict[str, Any] = json.loads(content)
                return found
            os.close(out)
            os.close(err)
            os.write(report, f"{process}\n".encode())
            running[pidfd := os.pidfd_open(process)] = process, report
            waiting.register(pidfd, selectors.EVENT_READ)


def _serve(descriptor: int, imports: Sequence[str] = _IMPORTS) -> None:
    for name in imports:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the fork's collector, at its end, takes a second over what is shared
    with socket.socket(fileno=descriptor) as control:
        request = _request(control)
    if request is None:
        return
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:0] = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    way, what, *sys.argv[1:] = request["words"]
    if way == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
