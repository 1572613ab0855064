"""Archives that lie in a folder, and whether they are unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sharegptvideo._io import os_errors
from sharegptvideo.data.download.plan import MARKER, read_marker
from sharegptvideo.data.download.select import ARCHIVES, archive_name, top_names
from sharegptvideo.data.download.unpack import first_file
from sharegptvideo.errors import UserError
from sharegptvideo.media.folder import natural_order, of_kind

__all__ = ["LocalArchive", "Packing", "find_archives"]

# The release's archives lie one to three folders deep, with a folder for the repository four.
_DEPTH = 4
# A folder with more folders than this holds clips, and no archive lies in one of those.
_MANY = 1000
# The authors' predictions and verdicts, beside the test sets: no clips.
_NO_MEDIA = frozenset({"compile_test_result.tar.gz", "test_result.tar.gz"})


class Packing(Enum):
    """What has become of an archive."""

    PACKED = "packed"
    """Not unpacked, or from the folder that it was unpacked to something is missing."""
    UNPACKED = "unpacked"
    """By this package, into the folder that carries its marker."""
    BY_HAND = "by hand"
    """Without a marker: the first file that it holds lies where `tar` puts it."""
    IN_THE_WAY = "in the way"
    """Something else lies where it is to be unpacked."""


@dataclass(frozen=True, slots=True)
class LocalArchive:
    """An archive: its path below `root`, its bytes, the folder for its content, its state."""

    root: Path
    path: str
    size: int
    target: Path
    state: Packing


def find_archives(folder: str | os.PathLike[str]) -> list[LocalArchive]:
    """Return the archives in a folder and up to four folders below, in natural order.

    Folders of clips are not entered; links are followed. The path of one archive gives that one.

    Raises:
        UserError: no such folder, a folder that cannot be listed, a file that is no archive.
    """
    root = Path(folder).expanduser().absolute()
    if root.is_file():
        if archive_name(root.name) is None:
            raise UserError(f"{root}: not an archive ({', '.join(ARCHIVES)}), and not a folder")
        return [_archive(root.parent, root.name)]
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    return [_archive(root, path) for path in sorted(_walk(root, (), set()), key=natural_order)]


def _walk(root: Path, above: tuple[str, ...], seen: set[tuple[int, int]]) -> Iterator[str]:
    folder = root.joinpath(*above)
    with os_errors(folder, action="listed"):
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if entry.name == MARKER or entry.name[0] != "."]
        if any(entry.name == MARKER for entry in shown):
            return  # what came out of an archive
        folders = [entry.name for entry in shown if of_kind(entry.is_dir)]
        files = [one.name for one in shown if archive_name(one.name) and of_kind(one.is_file)]
    for name in files:
        if name not in _NO_MEDIA:
            yield "/".join((*above, name))
    if len(above) < _DEPTH and len(folders) <= _MANY:
        for name in folders:
            yield from _walk(root, (*above, name), seen)


def _archive(root: Path, path: str) -> LocalArchive:
    file = root / path
    target = root / str(archive_name(path))
    with os_errors(file, action="read"):
        size = file.stat().st_size
        return LocalArchive(root, path, size, target, _state(file, size, target))


def _state(file: Path, size: int, target: Path) -> Packing:
    marker = read_marker(target)
    if marker is not None:
        same = marker.size in (None, size)
        return Packing.UNPACKED if same and marker.is_whole(target) else Packing.PACKED
    first = first_file(file)
    if first:
        # As `tar -xf` leaves it in the archive's folder or in the target, with and without the
        # archive's own top folder.
        places = [file.parent.joinpath(*first), target.joinpath(*first)]
        if first[0] in top_names(file.name):
            places.append(target.joinpath(*first[1:]))
        if file.parent.name == "image_chunks":  # as the authors unpack ALLaVA's, without folders
            places.append(file.parent.with_name("images") / first[-1])
        if any(place.exists() for place in places):
            return Packing.BY_HAND
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        return Packing.IN_THE_WAY
    return Packing.PACKED
