"""Download: make a plan, ask, and carry it out in a way that survives any stop.

One process at a time works in a folder. A few files are fetched at once, and archives unpacked
beside that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from sharegptvideo._concurrency import Progress, available_cores
from sharegptvideo._io import FULL_DISK, KeyedLog, os_error_line, sync_folder, write_json
from sharegptvideo._runs import folder_lock
from sharegptvideo._text import byte_size, few
from sharegptvideo.data.download.fetch import RemoteFile, Stop, Stopped, digest_of, fetch
from sharegptvideo.data.download.local import LocalArchive, Packing, find_archives
from sharegptvideo.data.download.plan import (
    JOURNAL,
    MARKER,
    Item,
    Plan,
    State,
    count_top,
    in_the_way,
    make_plan,
    work_folder,
)
from sharegptvideo.data.download.select import top_names
from sharegptvideo.data.download.unpack import ArchiveError, Limits, Unpacked
from sharegptvideo.errors import UserError

__all__ = ["Outcome", "download", "unpack_archives"]

_CONNECTIONS = 4
_MOST_WORKERS = 8
# Failures that are named with their causes.
_NAMED = 5
# How often progress is shown while nothing ends.
_SHOW_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a download did: bytes that came, files put in place, archives and clips unpacked."""

    fetched_bytes: int = 0
    files: int = 0
    archives: int = 0
    entries: int = 0
    unpacked_bytes: int = 0


def download(
    name: str,
    to: str | os.PathLike[str],
    *,
    media: bool = False,
    raw: bool = False,
    only: str | None = None,
    revision: str | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    confirm: Callable[[Plan], bool] | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, Outcome | None]:
    """Bring a dataset of the release into a folder, with its clips if `media` is set.

    Safe to stop at any moment, kill -9 included; the same call goes on. What is there and
    right is not fetched again, so a second call does nothing.

    Args:
        name: a config ("qa", "msvd_qa"), or "all".
        to: the folder; made if need be. A local copy of the release is taken over.
        media: the clips too: `train_300k` for the training sets, `train_600k` as well for
            "captions", and of a test set its own archive; for "image_captions" and "sft" the
            images of ALLaVA and Vision-Flan, from their own repositories. Archives are removed
            once unpacked, but never those that were there before.
        raw: the clips as the videos that the frames were taken from, into `raw/`; of the training
            sets they are published for ActivityNet alone. Images come too.
        only: take just what belongs to a source, one of `SOURCES`; the training files mix
            theirs and are left out.
        revision: branch, tag or commit on the Hub.
        limits: where unpacking an archive stops.
        workers: archives unpacked at a time, each in a process; by default one per core,
            eight at most.
        confirm: shown the plan where something is to be done; False ends there.
        progress: called as `progress(done, total, what)`.

    Returns:
        The plan, as it was before, with the media in `missing` that the Hub did not give and that
        stopped nothing; and what was done, None where `confirm` said no.

    Raises:
        UserError: unknown name or source; the Hub says no or cannot be reached; wrong bytes;
            an archive that is damaged, refused or over the limits; something of the user's in
            the way; a full disk or a folder without rights; another download at work there.
    """
    root = Path(to).expanduser().absolute()
    busy = f"{root}: another download is at work there; wait for it"
    with contextlib.ExitStack() as held:
        with _disk_errors(root):
            work_folder(root).mkdir(parents=True, exist_ok=True)
            held.enter_context(folder_lock(work_folder(root) / "lock", busy))
            journal = held.enter_context(KeyedLog(work_folder(root) / JOURNAL, key="path"))
            plan = make_plan(
                name, root, journal, media=media, raw=raw, only=only, revision=revision
            )
        if plan.open:
            _check_space(plan, "choose another folder with --to, or leave out --media")
            if confirm is not None and not confirm(plan):
                return plan, None
        run = _Run(plan, journal, limits or Limits())
        return plan, run.all(workers or min(available_cores(), _MOST_WORKERS), progress)


def unpack_archives(
    folder: str | os.PathLike[str],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
    remove: bool = False,
    progress: Progress | None = None,
) -> tuple[list[LocalArchive], Outcome]:
    """Unpack the archives that lie in a folder, each into a folder of its own beside it.

    The same guard as for a download, and the same folders: `train_300k/chunk_0.tar.gz` becomes
    `train_300k/chunk_0`, whole or not at all. Safe to stop at any moment, kill -9 included; the
    same call goes on with the archives that are left. What is unpacked already, here or by hand,
    is not unpacked again.

    Args:
        folder: with archives anywhere in its first levels, see `find_archives`; or one archive.
        limits: where unpacking an archive stops.
        workers: archives unpacked at a time, each in a process; by default one per core,
            eight at most.
        remove: remove each archive once it is unpacked, those of earlier runs too.
        progress: called as `progress(done, total, what)`, in megabytes of the archives.

    Returns:
        The archives as they were before, and what was done.

    Raises:
        UserError: no such folder; something else lies where an archive is to be unpacked; an
            archive that is damaged, refused or over the limits; a full disk or a folder without
            rights; another download or unpacking at work there.
    """
    archives = find_archives(folder)
    root = archives[0].root if archives else Path(folder)
    for archive in archives:
        if archive.state is Packing.IN_THE_WAY:
            raise UserError(
                f"{archive.target}: is there, but did not come from {archive.path}; move one of "
                "the two away"
            )
    items = tuple(
        Item(
            # Its digest, of the kind that the Hub keeps of large files, is filled in by `bring`:
            # a later download takes the folder for its own.
            RemoteFile("", "", archive.path, archive.size, "sha256:"),
            what="archives",
            target=archive.target,
            state=State.LOCAL,
            here=archive.size,
            is_archive=True,
        )
        for archive in archives
        if archive.state is Packing.PACKED
    )
    if remove:  # by a run that was stopped, or that left them
        with _disk_errors(root):
            for archive in archives:
                if archive.state is Packing.UNPACKED:
                    (root / archive.path).unlink()
    if not items:
        return archives, Outcome()
    plan = Plan(root, items, {})
    with contextlib.ExitStack() as held:
        with _disk_errors(root):
            work_folder(root).mkdir(exist_ok=True)
            busy = f"{root}: another download or unpacking is at work there; wait for it"
            held.enter_context(folder_lock(work_folder(root) / "lock", busy))
        _check_space(plan, "or unpack some of the archives, by their names")
        run = _Run(plan, None, limits or Limits(), remove)
        return archives, run.all(workers or min(available_cores(), _MOST_WORKERS), progress)


class _DiskError(UserError):
    """The disk, not one file, is at fault: nothing else can be written there either."""


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Turn what the file system refuses below `root` into one line with the fix."""
    try:
        yield
    except OSError as error:
        full = "free some space and run the same command again, it goes on where it stopped"
        line = os_error_line(error, root, full if error.errno in FULL_DISK else "")
        if line is None:
            raise
        raise _DiskError(line, exit_code=1) from error


def _check_space(plan: Plan, fix: str) -> None:
    """Refuse a plan that the disk has no room for; the fix beside making room is `fix`.

    Frames are JPEG files, so an archive unpacks to no less than its size.
    """
    free = shutil.disk_usage(plan.to).free
    archives = sum(item.remote.size for item in plan.open if item.is_archive)
    rows = sum(item.to_fetch for item in plan.open if not item.is_archive)
    needed = rows + archives
    if needed > free:
        raise UserError(
            f"{plan.to}: {byte_size(needed)} are needed and {byte_size(free)} free; "
            f"make room, {fix}",
            exit_code=1,
        )


@dataclass(slots=True)
class _Run:
    plan: Plan
    journal: KeyedLog | None  # None where nothing is downloaded
    limits: Limits
    remove: bool = False  # archives of the user's, once unpacked
    stop: Stop = field(default_factory=Stop)
    counts: Counter[str] = field(default_factory=Counter)
    here: int = 0
    read: dict[str, int] = field(default_factory=dict)
    processes: set[subprocess.Popen[str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def all(self, workers: int, progress: Progress | None) -> Outcome:
        """Do what the plan leaves open. A file at fault does not stop the others; the disk does.

        Raises:
            UserError: the disk fails, or some files do: how many, and why the first one.
        """
        fetchers = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="fetch")
        unpackers = ThreadPoolExecutor(workers, thread_name_prefix="unpack")
        pending: dict[Future[Item | None], Item] = {
            fetchers.submit(self.bring, item): item for item in self.plan.open
        }
        failed: list[UserError] = []
        try:
            while pending:
                done, _ = wait(pending, timeout=_SHOW_EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    item = pending.pop(future)
                    try:
                        archive = future.result()
                    except _DiskError:
                        raise
                    except UserError as error:
                        failed.append(error)
                    else:
                        if archive is not None:
                            pending[unpackers.submit(self.unpack, archive)] = item
                self.show(progress)
        finally:  # Ctrl-C too: those at work stop at their next block, and what they have stays
            self.halt()
            fetchers.shutdown(cancel_futures=True)
            unpackers.shutdown(cancel_futures=True)
            self.show(progress)
        if failed:
            total = len(self.plan.open)
            others = f" ({len(failed)} of {total} files failed)" if len(failed) > 1 else ""
            causes = "; ".join(few([str(error) for error in failed], _NAMED))
            raise UserError(f"{causes}{others}", exit_code=1)
        return Outcome(**self.counts)

    def halt(self) -> None:
        """Have all that is at work end soon; what has been written stays."""
        self.stop.set()
        with self.lock:
            for process in self.processes:
                process.kill()

    def show(self, progress: Progress | None) -> None:
        """Show two bars: megabytes that came, and megabytes of the archives that were unpacked."""
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
            self.counts.update(more)

    def advance(self, count: int) -> None:
        with self.lock:
            self.here += count
        self.add(fetched_bytes=max(count, 0))

    def bring(self, item: Item) -> Item | None:
        """Bring the whole, checked content of a file: to its place, or where it is unpacked.

        Returns:
            The item where it is an archive, to be unpacked, with its digest.
        """
        with _disk_errors(self.plan.to):
            if item.state is State.LOCAL:
                digest = digest_of(item.own, item.remote, self.stop)
                return replace(item, remote=replace(item.remote, digest=digest))
            if item.state is State.CHECK:
                self._take_over(item)
                return item if item.is_archive else None
            part = work_folder(self.plan.to) / item.remote.part_name
            fetch(item.remote, part, advance=self.advance, stop=self.stop)
            if not item.is_archive:
                item.target.parent.mkdir(parents=True, exist_ok=True)
                # To the disk itself, before the journal calls it done; an archive is hashed again.
                with part.open("rb") as content:
                    os.fsync(content.fileno())
                part.replace(item.target)
                sync_folder(item.target.parent)
                self._note(item)
        return item if item.is_archive else None

    def _take_over(self, item: Item) -> None:
        path = item.own if item.is_archive else item.target
        if digest_of(path, item.remote, self.stop) != item.remote.digest:
            raise in_the_way(path, item.remote)
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
        assert self.journal is not None  # a download's
        with self.lock:
            self.journal.append(row)
        self.add(files=1)

    def unpack(self, item: Item) -> None:
        """Unpack an archive beside its place and move the folder there, whole."""
        with _disk_errors(self.plan.to):
            ours = item.state is State.FETCH
            work = work_folder(self.plan.to)
            archive = work / item.remote.part_name if ours else item.own
            if item.target.parent.exists() and _device(item.target.parent) != _device(work):
                work = work_folder(item.target.parent)  # a folder is moved within a disk only
            into, old = work / f"{item.remote.key}.unpacking", work / f"{item.remote.key}.old"
            for left in (into, old):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                unpacked = self._unpack_in_process(item, archive, into)
                self._put_in_place(item, unpacked, old)
            finally:
                for left in (into, old):
                    shutil.rmtree(left, ignore_errors=True)
            if ours or self.remove:
                archive.unlink()
        self.add(archives=1, entries=unpacked.entries, unpacked_bytes=unpacked.bytes)

    def _put_in_place(self, item: Item, unpacked: Unpacked, old: Path) -> None:
        mark = {
            "archive": item.remote.path,
            "digest": item.remote.digest,
            "size": item.remote.size,
            "repo": item.remote.repo,
            "commit": item.remote.commit,
            "entries": unpacked.entries,
            "bytes": unpacked.bytes,
            "top": count_top(unpacked.folder),
        }
        write_json(unpacked.folder / MARKER, mark)
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if item.target.exists():  # an earlier revision's, or one with clips missing
            item.target.rename(old)
        unpacked.folder.rename(item.target)
        sync_folder(item.target.parent)

    def _unpack_in_process(self, item: Item, archive: Path, into: Path) -> Unpacked:
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
            message: dict[str, Any] = json.loads(line)
            if "done" in message:
                entries, size, folder = message["done"]
                with self.lock:
                    self.read[item.remote.path] = item.remote.size
                return Unpacked(entries, size, Path(folder))
            if "refused" in message:
                raise ArchiveError(message["refused"])
            if "errno" in message:
                code = message["errno"]
                raise OSError(code, os.strerror(code), message["filename"])
            with self.lock:
                self.read[item.remote.path] = message["read"]
        if self.stop.is_set():
            raise Stopped
        raise UserError(
            f"{item.remote.path}: the process that unpacked it died (out of memory?); "
            "run the same command again",
            exit_code=1,
        )


def _device(folder: Path) -> int:
    return folder.stat().st_dev


def _megabytes(size: int) -> int:
    """Round up, so that a small file has a bar too."""
    return -(-size // 1_000_000)
