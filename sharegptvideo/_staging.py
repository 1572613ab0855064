"""Several files of one folder that take their places together: all of them, or none."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sharegptvideo._io import making, sync_folder
from sharegptvideo.errors import UserError

__all__ = ["STAGE", "replacing_files"]

STAGE = ".sharegptvideo.partial"
"""Folder in the one that is written, where new files wait for the rest."""

_PAGES = ("index.html", "README.md")  # what a reader opens first


@contextlib.contextmanager
def replacing_files(folder: Path, obsolete: Iterable[str] = ()) -> Iterator[Path]:
    """Give an empty folder whose files take their places in `folder`, at once, as the block ends.

    What else `folder` holds stays. On an error nothing of the block stays, and no folder that was
    made for it. After a kill at any moment `folder` holds what it held or all that is new; the
    next call clears the rest away.

    That is done by an exchange of two folders in one step, which Linux's own file systems have.
    Elsewhere, and where `folder` is a mount or the folder above may not be written, files take
    their places one by one, pages last: then a kill in these milliseconds leaves some of each.

    Args:
        folder: made where it is missing.
        obsolete: patterns as of `Path.glob`; files of these go where the block wrote none in
            their place, and folders that are then empty.

    Raises:
        UserError: another process is writing to `folder` in this way.
        OSError: as the file system says.
    """
    with making(folder), contextlib.ExitStack() as locks:
        place = folder.resolve()  # a link to a folder stays one
        locks.enter_context(_only_writer(place, folder))
        stage, beside = place / STAGE, place.with_name(f".{place.name}.partial")
        for left in (stage, beside):  # by a killed process, as the lock says
            shutil.rmtree(left, ignore_errors=True)
        try:
            stage.mkdir()
            locks.enter_context(_only_writer(stage, folder))
            yield stage
            _commit(stage, beside, place, obsolete)
        finally:
            for left in (stage, beside):
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _only_writer(place: Path, named: Path) -> Iterator[None]:
    """Hold a lock on a folder, where its file system has them; a dead process holds none."""
    handle = os.open(place, os.O_RDONLY)
    try:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            busy = f"{named}: another process is writing its files; wait for its end"
            raise UserError(busy, exit_code=1) from error
        except (ImportError, OSError):  # no locks there: two writers at once are then not noticed
            pass
        yield
    finally:
        os.close(handle)


def _commit(stage: Path, beside: Path, place: Path, obsolete: Iterable[str]) -> None:
    new = sorted(_files(stage), key=lambda name: (name.name in _PAGES, name))
    gone = {
        path.relative_to(place) for pattern in obsolete for path in place.glob(pattern)
        if not path.is_dir() and stage not in path.parents
    } - set(new)  # fmt: skip
    try:
        _link_others(place, stage, gone)
        stage.rename(beside)
        sync_folder(beside)
        _exchange(beside, place)
    except OSError:  # no links, a mount, a folder above that may not be written: see above
        source = beside if beside.is_dir() else stage
        _put(source, place, new, os.replace)
    else:
        # The folder itself comes back: it may be mounted elsewhere, or be where someone works.
        with contextlib.suppress(OSError):
            _put(place, beside, new, _link)
            _remove(beside, gone)
            _exchange(beside, place)
    _remove(place, gone)
    sync_folder(place)
    sync_folder(place.parent)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, links among them, by their paths in it."""
    for top, folders, files in os.walk(folder):
        here = Path(top)
        folders[:] = [name for name in folders if name != STAGE or here != folder]
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*files, *links):
            yield (here / name).relative_to(folder)


def _link_others(place: Path, stage: Path, gone: set[Path]) -> None:
    """Put what `place` holds beside what is new, by links that take no space."""
    for top, folders, files in os.walk(place):
        folders[:] = [name for name in folders if Path(top, name) != stage]
        if not folders and not files:
            (stage / Path(top).relative_to(place)).mkdir(parents=True, exist_ok=True)
    for name in _files(place):
        if name not in gone and not os.path.lexists(stage / name):
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(place / name, stage / name, follow_symlinks=False)
    for top, _, _ in os.walk(stage):
        same = place / Path(top).relative_to(stage)
        if same.is_dir():
            shutil.copystat(same, top)


def _put(
    source: Path, target: Path, names: Iterable[Path], move: Callable[[Path, Path], object]
) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        move(source / name, target / name)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    os.link(source, target, follow_symlinks=False)


def _remove(folder: Path, names: Iterable[Path]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # holds something else
            for above in list(name.parents)[:-1]:
                (folder / above).rmdir()


_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h: paths are those of this process


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step, or raise an OSError where the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError) as error:  # another system, or an old library
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    paths = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
