"""Read the facts of many clips in worker processes that end when their parent does."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import warnings
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import ClipFacts, read_facts

__all__ = ["open_clips"]

_CHUNK = 64
# Chunks handed out ahead for each worker, so that none waits.
_AHEAD = 4
# Opening fewer takes less time than starting a process.
_FEW = 256


def open_clips(
    root: Path, paths: list[str], workers: int
) -> Generator[tuple[str, ClipFacts], None, None]:
    """(path, facts) of each path below `root`, in any order, as they are done.

    Raises:
        UserError: a worker process died.
    """
    if workers == 1 or len(paths) <= _FEW:
        for path in paths:
            yield path, _read(root, path)
        return
    chunks = (paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK))
    # spawn, not fork: the caller may hold threads of torch or of a progress display.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            running: set[Future[list[tuple[str, ClipFacts]]]] = set()
            while True:
                while len(running) < workers * _AHEAD and (chunk := next(chunks, None)):
                    running.add(pool.submit(_read_chunk, root, chunk))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that opens clips died (no memory left, or a script without "
                '`if __name__ == "__main__"`); run again with 1 worker, what was finished is kept',
                exit_code=1,
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(root: Path, path: str) -> ClipFacts:
    with warnings.catch_warnings():
        # Pillow's and our own warnings about a clip are in its facts, or do not matter here.
        warnings.simplefilter("ignore")
        return read_facts(root / path)


def _read_chunk(root: Path, paths: list[str]) -> list[tuple[str, ClipFacts]]:
    return [(path, _read(root, path)) for path in paths]


def _begin_worker() -> None:
    """Ctrl-C is the parent's to handle; a parent that was killed takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # of the worker, never of the process that asked

    threading.Thread(target=follow, daemon=True).start()
