"""Processes that make pieces of work, each one after another, and that end with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import os_errors, read_json, write_json
from sharegptvideo.errors import UserError
from sharegptvideo.study.node import DONE, Findings, Node, Stage, Work, read_done

__all__ = ["Crew", "make"]

_PARTIAL = "partial.json"
_SPACE = "free some space and run the same command again"
_EXIT_S = 5.0  # from the end of a process's pipe to its exit code
_REPORT_S = 0.5  # between two reports of progress
_PATIENCE_S = 60.0  # a training that is asked to stop writes a checkpoint after its step


def make(
    node: Node, stages: Path, stage: Stage, progress: Progress | None = None
) -> dict[str, Any]:
    """Do a piece of work, unless it is done, and return the contents of its `done.json`.

    The seconds of a call that was interrupted are kept, and added to those of the one that ends it.

    Args:
        node: the work; its parents are done.
        stages: the folder of all pieces.
        stage: the node's.
        progress: a display of what the work itself reports.

    Raises:
        UserError: the work cannot be done, or its folder cannot be written.
    """
    folder = stages / node.key
    done = read_done(folder)
    if done is not None:
        return done
    with os_errors(stages, _SPACE):
        return _make(node, stages, stage, progress)


def _make(node: Node, stages: Path, stage: Stage, progress: Progress | None) -> dict[str, Any]:
    folder = stages / node.key
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / _PARTIAL
    before = 0.0
    with contextlib.suppress(UserError, LookupError, TypeError, ValueError):  # a figure, no more
        before = float(read_json(partial)["seconds"])
    start = time.monotonic()
    inputs = {name: stages / parent.key for name, parent in node.parents.items()}
    try:
        findings: Findings = stage.work(Work(folder, node.settings, inputs, progress))
    except BaseException:  # Ctrl-C too: the seconds are kept, then it is raised on
        with contextlib.suppress(OSError):  # a full disk is the likely reason
            write_json(partial, {"seconds": round(before + time.monotonic() - start, 2)})
        raise
    done = {
        **node.identity(),
        "seconds": round(before + time.monotonic() - start, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "findings": findings,
    }
    write_json(folder / DONE, done)
    partial.unlink(missing_ok=True)
    return done


class Crew:
    """So many processes, started as work comes; a context manager that ends them.

    Each has one thread for its models. Left by an exception, Ctrl-C included, it asks the processes
    to stop, which lets a training write a checkpoint, and waits for that.
    """

    def __init__(
        self,
        stages: Path,
        width: int,
        on_progress: Callable[[Node, int, int, str], None] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            stages: the folder of all pieces.
            width: how many processes.
            on_progress: called in `wait` with a node and what its work reports: done, total, what.
        """
        self._stages, self._width, self._on_progress = stages, width, on_progress
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, Node]] = {}

    @property
    def free(self) -> int:
        """How many more pieces can be begun now."""
        return self._width - len(self._busy)

    def begin(self, node: Node) -> None:
        """Begin a piece of work in a process that has nothing to do."""
        while self._idle and not self._idle[-1].alive:  # a system short of memory ends any
            self._idle.pop().end(0)
        process = self._idle.pop() if self._idle else _Process(self._stages)
        self._busy[process.connection] = (process, node)
        with contextlib.suppress(BrokenPipeError):  # it has just died; `wait` says so
            process.connection.send(node)

    def wait(self, seconds: float) -> Iterator[tuple[Node, dict[str, Any] | Exception]]:
        """Yield what ends within some seconds: the node, and its `done.json` or its error.

        Raises:
            UserError: a process died.
        """
        ready = multiprocessing.connection.wait(list(self._busy), seconds)
        for connection in ready:
            assert isinstance(connection, Connection)
            process, node = self._busy[connection]
            try:
                outcome = connection.recv()
            except (EOFError, ConnectionResetError):
                del self._busy[connection]
                process.end(_EXIT_S)
                raise UserError(
                    f"{node.label or node.key}: its process died ({process.exit}), perhaps for"
                    " lack of memory; run the same command again, with --processes 1",
                    exit_code=1,
                ) from None
            if isinstance(outcome, tuple):
                if self._on_progress:
                    self._on_progress(node, *outcome)
                continue
            del self._busy[connection]
            self._idle.append(process)
            yield node, outcome

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        processes = [*self._idle, *(process for process, _ in self._busy.values())]
        for process in processes:
            process.stop()
        deadline = time.monotonic() + _PATIENCE_S
        for process in processes:
            process.end(max(0.0, deadline - time.monotonic()))


class _Process:
    def __init__(self, stages: Path) -> None:
        # spawn, not fork: the caller may hold threads of a progress display.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(theirs, stages))
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def exit(self) -> str:
        code = self._process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """Ask for the end: of an idle process at once, of a training after its checkpoint."""
        if self._process.is_alive():
            self._process.terminate()

    def end(self, patience_s: float) -> None:
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()


def _serve(connection: Connection, stages: Path) -> None:
    """Make nodes as they come, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # of this process alone

    threading.Thread(target=follow, daemon=True).start()
    from sharegptvideo.study.catalogue import all_stages

    known = all_stages()
    progress = _sent(connection)
    while True:
        try:
            node: Node = connection.recv()
        except EOFError:
            return
        try:
            outcome: dict[str, Any] | Exception = make(node, stages, known[node.stage], progress)
        except KeyboardInterrupt:  # a training that was asked to stop, its checkpoint written
            return
        except UserError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 - raised on in the parent, with its place
            traceback.print_exc()
            words = " ".join(str(error).split())
            outcome = UserError(f"{type(error).__name__}: {words}", exit_code=1)
        connection.send(outcome)


def _sent(connection: Connection) -> Progress:
    """Return a `progress` that sends what it gets through a connection, some times a second."""
    last = 0.0
    turn = threading.Lock()  # work may report from several threads

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        with turn:
            if time.monotonic() - last >= _REPORT_S:
                last = time.monotonic()
                with contextlib.suppress(OSError):  # the parent may be gone; work has its own end
                    connection.send((done, total, what))

    return progress
