"""Read the facts of many clips in worker processes."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from sharegptvideo._concurrency import worker_pool
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
    with worker_pool(workers) as pool:
        running: set[Future[list[tuple[str, ClipFacts]]]] = set()
        while True:
            while len(running) < workers * _AHEAD and (chunk := next(chunks, None)):
                running.add(pool.submit(_read_chunk, root, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _read(root: Path, path: str) -> ClipFacts:
    with warnings.catch_warnings():
        # Pillow's and our own warnings about a clip are in its facts, or do not matter here.
        warnings.simplefilter("ignore")
        return read_facts(root / path)


def _read_chunk(root: Path, paths: list[str]) -> list[tuple[str, ClipFacts]]:
    return [(path, _read(root, path)) for path in paths]
