"""Carry out a plan: fetch a few files at a time, unpack archives beside it, survive any stop."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog, write_json
from sharegptvideo.data.download.disk import DiskError, disk_errors
from sharegptvideo.data.download.fetch import Stop, Stopped, digest_of, fetch
from sharegptvideo.data.download.plan import (
    MARKER,
    Item,
    Plan,
    State,
    count_top,
    in_the_way,
    work_folder,
)
from sharegptvideo.data.download.select import top_names
from sharegptvideo.data.download.unpack import ArchiveError, Limits, Unpacked
from sharegptvideo.errors import UserError

__all__ = ["Outcome", "run_plan"]

_CONNECTIONS = 4
# Between two looks at the progress while nothing ends.
_LOOK_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a download did: bytes that came, files put in place, archives and clips unpacked."""

    fetched_bytes: int = 0
    files: int = 0
    archives: int = 0
    entries: int = 0
    unpacked_bytes: int = 0


def run_plan(
    plan: Plan, journal: KeyedLog, *, limits: Limits, workers: int, progress: Progress | None
) -> Outcome:
    """Do what the plan leaves open. A file at fault does not stop the others; the disk does.

    Raises:
        UserError: the disk fails, or some files do: how many, and why the first one.
    """
    run = _Run(plan, journal, limits)
    fetchers = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="fetch")
    unpackers = ThreadPoolExecutor(workers, thread_name_prefix="unpack")
    pending: dict[Future[None], tuple[Item, bool]] = {
        fetchers.submit(run.bring, item): (item, True) for item in plan.open
    }
    failed: list[UserError] = []
    try:
        while pending:
            done, _ = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            for future in done:
                item, was_fetch = pending.pop(future)
                try:
                    future.result()
                except DiskError:
                    raise
                except UserError as error:
                    failed.append(error)
                else:
                    if was_fetch and item.is_archive:
                        pending[unpackers.submit(run.unpack, item)] = (item, False)
            run.show(progress)
    finally:  # Ctrl-C too: those at work stop at their next block, and what they have stays
        run.halt()
        fetchers.shutdown(cancel_futures=True)
        unpackers.shutdown(cancel_futures=True)
        run.show(progress)
    if failed:
        others = f" ({len(failed)} of {len(plan.open)} files failed)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{others}", exit_code=1)
    return run.outcome


@dataclass(slots=True)
class _Run:
    plan: Plan
    journal: KeyedLog
    limits: Limits
    stop: Stop = field(default_factory=Stop)
    outcome: Outcome = field(default_factory=Outcome)
    here: int = 0
    read: dict[str, int] = field(default_factory=dict)
    processes: set[subprocess.Popen[str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def halt(self) -> None:
        """Have all that is at work end soon; what has been written stays."""
        self.stop.set()
        with self.lock:
            for process in self.processes:
                process.kill()

    def show(self, progress: Progress | None) -> None:
        """Two bars: megabytes that came, and megabytes of the archives that were unpacked."""
        if progress is None:
            return
        with self.lock:
            # Below zero where what an earlier run left had to be thrown away.
            total, done = self.plan.to_fetch, max(self.here, 0)
            unpacked = sum(self.read.values())
        if total:
            progress(_megabytes(done), _megabytes(total), "downloaded, MB")
        archives = sum(item.remote.size for item in self.plan.open if item.is_archive)
        if archives:
            progress(_megabytes(unpacked), _megabytes(archives), "unpacked, MB")

    def add(self, **more: int) -> None:
        with self.lock:
            now = dataclasses.asdict(self.outcome)
            self.outcome = Outcome(**{name: now[name] + more.get(name, 0) for name in now})

    def advance(self, count: int) -> None:
        with self.lock:
            self.here += count
        self.add(fetched_bytes=max(count, 0))

    def bring(self, item: Item) -> None:
        """Have the whole, checked content of a file: in its place, or of an archive, at hand."""
        with disk_errors(self.plan.to):
            if item.state is State.CHECK:
                self._take_over(item)
                return
            part = work_folder(self.plan.to) / item.remote.part_name
            fetch(item.remote, part, advance=self.advance, stop=self.stop)
            if not item.is_archive:
                item.target.parent.mkdir(parents=True, exist_ok=True)
                _sync(part)
                part.replace(item.target)
                self._note(item)

    def _take_over(self, item: Item) -> None:
        lies = self.plan.to / item.remote.path
        if digest_of(lies, item.remote, self.stop) != item.remote.digest:
            raise in_the_way(lies, item.remote)
        if not item.is_archive:
            self._note(item)

    def _note(self, item: Item) -> None:
        stat = item.target.stat()
        row = {
            "path": item.remote.path,
            "digest": item.remote.digest,
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "repo": item.remote.repo,
            "commit": item.remote.commit,
        }
        with self.lock:
            self.journal.append(row)
        self.add(files=1)

    def unpack(self, item: Item) -> None:
        """Unpack an archive beside its place and move the folder there, whole."""
        with disk_errors(self.plan.to):
            ours = item.state is not State.CHECK
            part = work_folder(self.plan.to) / item.remote.part_name
            archive = part if ours else self.plan.to / item.remote.path
            into = work_folder(self.plan.to) / f"{item.remote.key}.unpacking"
            old = work_folder(self.plan.to) / f"{item.remote.key}.old"
            for left in (into, old):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                found = self._in_a_process(item, archive, into)
                self._put_in_place(item, found, old)
            finally:
                for left in (into, old):
                    shutil.rmtree(left, ignore_errors=True)
            if ours:
                archive.unlink()
        self.add(archives=1, entries=found.entries, unpacked_bytes=found.bytes)

    def _put_in_place(self, item: Item, found: Unpacked, old: Path) -> None:
        mark = {
            "archive": item.remote.path,
            "digest": item.remote.digest,
            "repo": item.remote.repo,
            "commit": item.remote.commit,
            "entries": found.entries,
            "bytes": found.bytes,
            "top": count_top(found.folder),
        }
        write_json(found.folder / MARKER, mark)
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if item.target.exists():  # an earlier revision's, or one with clips missing
            item.target.rename(old)
        found.folder.rename(item.target)

    def _in_a_process(self, item: Item, archive: Path, into: Path) -> Unpacked:
        request = {
            "archive": str(archive),
            "into": str(into),
            "limits": dataclasses.asdict(self.limits),
            "label": item.remote.path,
            "drop": sorted(top_names(item.remote.path)),
        }
        command = [sys.executable, "-m", "sharegptvideo.data.download.worker"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches us; we stop it
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with self.lock:
                self.processes.add(process)
            try:
                with contextlib.suppress(BrokenPipeError):  # dead already: `_listen` says so
                    os.write(process.stdin.fileno(), json.dumps(request).encode() + b"\n")
                return self._listen(item, process.stdout)
            finally:
                process.kill()
                with self.lock:
                    self.processes.discard(process)

    def _listen(self, item: Item, lines: IO[str]) -> Unpacked:
        for line in lines:
            told: dict[str, Any] = json.loads(line)
            if "done" in told:
                entries, size, folder = told["done"]
                with self.lock:
                    self.read[item.remote.path] = item.remote.size
                return Unpacked(entries, size, Path(folder))
            if "refused" in told:
                raise ArchiveError(told["refused"])
            if "errno" in told:
                code = told["errno"]
                raise OSError(code, os.strerror(code), told["filename"])
            with self.lock:
                self.read[item.remote.path] = told["read"]
        if self.stop.is_set():
            raise Stopped
        raise UserError(
            f"{item.remote.path}: the process that unpacked it died (out of memory?); "
            "run the same command again",
            exit_code=1,
        )


def _sync(part: Path) -> None:
    """To the disk itself, before the journal calls it done; an archive is hashed again anyway."""
    with part.open("rb") as content:
        os.fsync(content.fileno())


def _megabytes(size: int) -> int:
    """Rounded up, so that a small file has a bar too."""
    return -(-size // 1_000_000)
