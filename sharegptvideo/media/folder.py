"""A folder of clips: its video files and folders of frames, looked up by stem."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sharegptvideo._io import os_errors
from sharegptvideo._text import few
from sharegptvideo.errors import MediaError, UserError

__all__ = [
    "FOLDER_FPS",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "ListedClip",
    "MediaFolder",
    "broken_link",
    "frame_names",
    "is_picture",
    "list_clips",
    "natural_order",
    "of_kind",
    "unicode_forms",
]

FOLDER_FPS = 2
"""Frames a second of a folder of frames, which does not say its rate; the release's have this."""

PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
_ENDINGS = """
mp4 m4v mov qt f4v ismv 3gp 3g2 k3g mj2 psp avi divx xvid amv mkv mk3d webm flv kux
mpg mpeg mpe mpv m1v m2v mp2v m2p vob vro evo mod tod ts m2t m2ts mts tp trp pva ty
wmv asf wtv dvr-ms ogv ogm ogx rm rmvb ivr gif dv dif mxf gxf lxf nut nuv nsv
h261 h263 h264 264 avc h265 265 hevc h266 266 vvc av1 obu ivf y4m mjpeg mjpg vc1 rcv
avs2 avs3 cavs drc dav viv flc fli swf bik smk roq mve mtv mlv moflex usm thp xmv
"""
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Endings of the files that FFmpeg's video demuxers read. Those that mostly name something else
(`.dat`, `.ogg`) are left out: `MediaFolder.unlisted` names such a file where a row asks for it."""

# Folders whose names say nothing about which clips they hold. A clip in any other folder is
# another set's, unless the stem names that folder too.
_NEUTRAL = frozenset(
    ("videos", "video", "video_data", "gifs", "clips", "frames", "media", "raw", "test", "train")
)
# The release calls one set by two names.
_SAME = {"activitynet": "actnet"}
_NEUTRAL_STARTS = ("chunk_", "train_")
# Folders of still images (`images`, `images_0`), whose pictures are no frames of one clip.
_STILLS = re.compile(r"images?(?:_.*)?", re.IGNORECASE)


def is_picture(name: str) -> bool:
    """Return whether a file of this name is a frame; hidden ones (`._c01_0001.jpeg`) are not."""
    return name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")


def natural_order(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return a sort key that takes digits as numbers: frame_2 comes before frame_10."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(text.casefold(), int(digits or -1)) for text, digits in parts], name


def frame_names(folder: Path) -> list[str]:
    """Return the names of a folder's frames, in their order; none of them is opened.

    Raises:
        MediaError: it cannot be read, or holds none.
    """
    with (
        os_errors(folder, action="opened", raises=MediaError, exit_code=1),
        os.scandir(folder) as entries,
    ):
        names = sorted((e.name for e in entries if is_picture(e.name)), key=natural_order)
    if not names:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise MediaError(f"{folder}: the folder holds no frames (pictures named *{kinds})")
    return names


@dataclass(slots=True)
class ListedClip:
    """One clip: its path below the root, the folders above it, and whether it is a file."""

    path: str
    folders: tuple[str, ...]
    is_file: bool


class MediaFolder:
    """The clips below one folder: video files, and folders of frames.

    Built by one walk, at the first `resolve`; clips added later are not seen. Folders of frames
    are listed but not entered, links are followed wherever they do not lead back up. Names match
    in whatever Unicode form they are written (composed, or decomposed as from a Mac). Can be
    pickled for loader workers. A caller that has walked the folder already (`media.index`) passes
    its clips as `listed`.
    """

    def __init__(self, root: str | Path, listed: Iterable[ListedClip] | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{root}: no such folder of media")
        self._by_name = None if listed is None else _by_name(listed)
        self._others: dict[str, dict[str, str]] = {}

    def resolve(self, stem: str) -> Path | None:
        """Return the file or frame folder that `stem` names, or None.

        A stem is the path of a clip without its extension: `baby_reading`, or `test/msvd/xyz`. With
        an extension it is understood too, and where no clip has the name as it stands, that of a
        video is left away: `xyz.mp4` also finds the folder of frames `xyz`, or `xyz.avi`; and `xyz`
        finds a folder that is called `xyz.mp4`. The whole stem is tried first, under the root and
        anywhere below; then without its first folders, so that `test/msvd/xyz` also finds
        `msvd/xyz.avi`, `xyz.avi` and `videos/xyz.avi`, but never `msrvtt/xyz.avi`, which is
        another clip. Of several equally good ones, that nearest the root wins if the stem is its
        whole path; then a video file before its folder of frames.

        Raises:
            MediaError: `stem` is empty, absolute or has `..` in it; or two clips fit equally.
        """
        path = self.locate(stem)
        return None if path is None else self.root / path

    def locate(self, stem: str) -> str | None:
        """Return what `resolve` does, as a path below the root with `/` between its parts."""
        parts = _stem_parts(stem)
        composed = [_composed(part) for part in parts]
        if self._by_name is None:
            self._by_name = _by_name(clip for clip, _ in list_clips(self.root))
        for name in dict.fromkeys((composed[-1], _without_ending(composed[-1]))):
            entries = self._by_name.get(name, [])
            for dropped in range(len(parts)):
                fits = [entry for entry in entries if _fits(entry.folders, composed[:-1], dropped)]
                if fits:
                    return self._best(stem, fits, len(parts) - 1 - dropped).path
        return None

    def unlisted(self, stem: str) -> str | None:
        """Return a file that has the name of an absent clip, and no known ending of a video.

        Looked for in the folders that the stem names, as a path below the root.
        """
        path = self._other(stem)
        return None if path is None or broken_link(self.root, path) else path

    def broken_link(self, stem: str) -> str | None:
        """Return the link that has the name of an absent clip and leads nowhere: `PATH -> TARGET`.

        Looked for as by `unlisted`.
        """
        path = self._other(stem)
        return None if path is None else broken_link(self.root, path)

    def _other(self, stem: str) -> str | None:
        parts = _stem_parts(stem)
        for dropped in range(len(parts)):
            folder = "/".join(parts[dropped:-1])
            if folder not in self._others:
                self._others[folder] = _others_by_stem(self.root / folder)
            name = self._others[folder].get(_composed(parts[-1]))
            if name is not None:
                return f"{folder}/{name}" if folder else name
        return None

    def _best(self, stem: str, fits: list[ListedClip], depth: int) -> ListedClip:
        exact = [entry for entry in fits if len(entry.folders) == depth]
        fits = exact or fits
        fits = [entry for entry in fits if entry.is_file] or fits
        name = PurePosixPath(stem).name
        for same in (_composed, str):  # the ending too, then the Unicode form
            names = {same(name), same(_without_ending(name))}
            full = [one for one in fits if same(PurePosixPath(one.path).name) == same(name)]
            part = [
                one for one in fits if _without_ending(same(PurePosixPath(one.path).name)) in names
            ]
            fits = full or part or fits
        if len(fits) > 1 and not self._are_one(fits):
            listed = " and ".join(few(sorted(entry.path for entry in fits), 2))
            raise MediaError(f"{self.root}: {stem!r} fits {listed}; remove or rename all but one")
        return min(fits, key=lambda entry: entry.path)

    def _are_one(self, clips: list[ListedClip]) -> bool:
        """Return whether the clips are one, reached by several links."""
        try:
            places = {(self.root / clip.path).stat()[1:3] for clip in clips}  # st_ino and st_dev
        except OSError:
            return False
        return len(places) == 1


def unicode_forms(name: str) -> list[str]:
    """Return a name as it is written, composed and decomposed, each once."""
    forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    return [name] if name.isascii() else list(dict.fromkeys(forms))


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def broken_link(root: Path, path: str) -> str | None:
    """Return `PATH -> TARGET` where `path` below `root` is a link that leads nowhere, else None."""
    place = f"{root}/{path}"  # a Path raises for some of the names that lead nowhere
    if not os.path.islink(place) or os.path.exists(place):  # noqa: PTH110, PTH114
        return None
    return f"{path} -> {os.readlink(place)}"  # noqa: PTH115


def of_kind(ask: Callable[[], bool]) -> bool:
    """Return what `is_dir` or `is_file` of a folder's entry answers; False for a link in a loop."""
    try:
        return ask()
    except OSError:
        return False


def _others_by_stem(folder: Path) -> dict[str, str]:
    """Return a folder's visible names that are no clips, by name and by stem.

    Those of files that are neither videos nor pictures, and of links that lead nowhere.
    """
    try:
        with os.scandir(folder) as entries:
            shown = sorted(
                (entry for entry in entries if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except OSError:
        return {}
    others = [
        entry.name
        for entry in shown
        if (
            not is_picture(entry.name) and _without_ending(entry.name) == entry.name
            if of_kind(entry.is_file)
            else not of_kind(entry.is_dir) and broken_link(folder, entry.name)
        )
    ]
    by_stem = {_composed(name.rpartition(".")[0]): name for name in others if "." in name}
    return by_stem | {_composed(name): name for name in others}


def _stem_parts(stem: str) -> list[str]:
    path = PurePosixPath(stem)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in stem:
        raise MediaError(f"{stem!r} is not the stem of a clip: a relative path without '..'")
    return list(path.parts)


def _fits(folders: tuple[str, ...], asked: list[str], dropped: int) -> bool:
    """Return whether a stem, less its first `dropped` folders, names a clip in `folders`."""
    folders = tuple(_SAME.get(name, _composed(name)) for name in folders)
    asked = [_SAME.get(name, name) for name in asked]
    kept = tuple(asked[dropped:])
    above, below = folders[: len(folders) - len(kept)], folders[len(folders) - len(kept) :]
    if below != kept:
        return False
    return not dropped or all(_is_neutral(name) or name in asked for name in above)


def _is_neutral(folder: str) -> bool:
    folder = folder.lower()
    return folder in _NEUTRAL or folder.startswith(_NEUTRAL_STARTS)


def _without_ending(name: str) -> str:
    """Return a name without the ending of a video file, if it has one."""
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in VIDEO_SUFFIXES else name


def _by_name(clips: Iterable[ListedClip]) -> dict[str, list[ListedClip]]:
    """Group clips by last name, composed, with the ending of a video and without it."""
    by_name: dict[str, list[ListedClip]] = {}
    for clip in clips:
        name = _composed(clip.path.rpartition("/")[2])
        for key in dict.fromkeys((name, _without_ending(name))):
            by_name.setdefault(key, []).append(clip)
    return by_name


def list_clips(
    root: Path, unchanged: Callable[[str, os.stat_result], bool] = lambda _path, _status: False
) -> Iterator[tuple[ListedClip, os.stat_result | None]]:
    """Yield every clip below `root`, and the status that a folder of frames had before its listing.

    `unchanged(path, status)` may say of a folder that it still is the folder of frames that it
    was: it is then not listed again, which is most of the work.

    Raises:
        UserError: a folder cannot be listed.
    """
    return _walk(str(root), (), frozenset(), unchanged)


def _walk(
    folder: str,
    above: tuple[str, ...],
    around: frozenset[tuple[int, int]],
    unchanged: Callable[[str, os.stat_result], bool],
) -> Iterator[tuple[ListedClip, os.stat_result | None]]:
    with os_errors(folder, action="listed"):
        status = os.stat(folder)  # noqa: PTH116 - a Path each for 100,000 folders costs seconds
        if (status.st_dev, status.st_ino) in around:
            return  # a link back up; a second way to a folder is a place of its own
        path = "/".join(above)
        may_be_clip = bool(above) and not _STILLS.fullmatch(above[-1])
        if may_be_clip and unchanged(path, status):
            yield ListedClip(path, above[:-1], False), status
            return
        folders, videos, pictures = _list(folder)
    if pictures and may_be_clip and not folders and not videos:
        yield ListedClip(path, above[:-1], False), status
        return
    for name in videos:
        yield ListedClip("/".join((*above, name)), above, True), None
    around |= {(status.st_dev, status.st_ino)}
    for name in folders:
        yield from _walk(f"{folder}/{name}", (*above, name), around, unchanged)


def _list(folder: str) -> tuple[list[str], list[str], bool]:
    """Return sub-folders, video files, and whether there are pictures, without hidden names."""
    folders: list[str] = []
    videos: list[str] = []
    pictures = False
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if of_kind(entry.is_dir):
                folders.append(name)
            elif name[name.rfind(".") :].lower() in VIDEO_SUFFIXES:
                if of_kind(entry.is_file):
                    videos.append(name)
            elif not pictures:
                pictures = is_picture(name) and of_kind(entry.is_file)
    return sorted(folders), sorted(videos), pictures
