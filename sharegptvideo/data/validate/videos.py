"""Videos that rows name: what they are used for, and which of them are the same by name."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from sharegptvideo._text import plural
from sharegptvideo.data.sources.rows import SETS
from sharegptvideo.data.sources.splits import stem_of

__all__ = ["NameIndex", "Role", "Use", "Videos", "name_key", "role_of", "set_of"]

Role = Literal["train", "validation", "test"]

_SCENE = re.compile(r"[-_]scene[-_]?\d+$")
# ActivityNet puts "v_" before a YouTube id, MSVD the seconds from and to after it.
_YOUTUBE = re.compile(r"v_(?P<a>[a-z0-9_-]{11})|(?P<b>[a-z0-9_-]{11})_\d+_\d+")
_NUMBER = re.compile(r"(?:video|vid|clip)?_?\d+")


def role_of(split: str) -> Role:
    """Return what rows of a split are for."""
    return "test" if split == "test" else "validation" if split == "validation" else "train"


def name_key(video: str) -> str:
    """Return what two names of one video have in common.

    Folders, the file's ending, case, Unicode form and the number of a scene cut out of it are left
    away; of ActivityNet's and MSVD's names, the YouTube id is what counts.

    >>> name_key("test/actnet/v_AbCdEfGhIjK.mp4"), name_key("v_abcdefghijk-Scene-003")
    ('abcdefghijk', 'abcdefghijk')
    """
    name = _SCENE.sub("", stem_of(video).casefold())
    match = _YOUTUBE.fullmatch(name)
    return (match["a"] or match["b"]) if match else name


def set_of(video: str, source: str | None) -> str | None:
    """Return the set that a video's path names, else its row's source; None if neither does."""
    for part in video.replace("\\", "/").split("/")[:-1]:
        if part.lower() in SETS:
            return SETS[part.lower()]
    return SETS.get((source or "").lower())


@dataclass(frozen=True, slots=True)
class Use:
    """A video as it is first met in one role: config, number of the row there, and its set."""

    video: str
    role: Role
    config: str
    row: int
    rows: int
    set: str | None

    @property
    def row_count(self) -> str:
        """The number of rows, in words."""
        return plural(self.rows, "row")


@dataclass(slots=True)
class Videos:
    """Every video that rows name, by role; about 200 bytes each."""

    _known: dict[Role, dict[str, int]] = field(
        default_factory=lambda: {"train": {}, "validation": {}, "test": {}}
    )
    _first: array[int] = field(default_factory=lambda: array("L"))
    _rows: array[int] = field(default_factory=lambda: array("L"))
    _labels: array[int] = field(default_factory=lambda: array("H"))
    _names: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, role: Role, video: str, config: str, source: str | None, row: int) -> None:
        """Note that row number `row` of a config is about `video`."""
        known = self._known[role]
        place = known.get(video)
        if place is not None:
            self._rows[place] += 1
            return
        known[video] = len(self._first)
        self._first.append(row)
        self._rows.append(1)
        label = (config, set_of(video, source or config.split("_")[0]))
        if label not in self._names:
            self._names.append(label)
        self._labels.append(self._names.index(label))

    def names(self) -> list[str]:
        """Return all videos, each once, sorted."""
        return sorted(set().union(*self._known.values()))

    def of(self, role: Role) -> Iterator[Use]:
        """Yield the videos of a role in the order they were met."""
        for video, place in self._known[role].items():
            config, of_set = self._names[self._labels[place]]
            yield Use(video, role, config, self._first[place], self._rows[place], of_set)

    def uses(self, video: str) -> Iterator[Use]:
        """Yield what a video is used for, test sets first."""
        roles: tuple[Role, ...] = ("test", "validation", "train")
        for role in roles:
            place = self._known[role].get(video)
            if place is not None:
                config, of_set = self._names[self._labels[place]]
                yield Use(video, role, config, self._first[place], self._rows[place], of_set)

    def same_name(self, held_out: Role) -> Iterator[tuple[Use, Use, bool]]:
        """Yield (use in training, use held out, whether the name is enough to be sure)."""
        known = NameIndex(self.of(held_out))
        if not known:
            return
        for use in self.of("train"):
            match = known.find(use.video, use.set)
            if match is not None:
                yield use, *match


class NameIndex:
    """Held-out videos by name."""

    def __init__(self, uses: Iterable[Use]) -> None:
        self._known: dict[str, list[Use]] = {}
        for use in uses:
            self._known.setdefault(name_key(use.video), []).append(use)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, video: str, of_set: str | None) -> tuple[Use, bool] | None:
        """Return a held-out video of the same name, and whether the name is enough to be sure.

        A name that is merely a number belongs to several sets: it is passed over where the two
        sets are known and differ, and uncertain where one is unknown. `of_set` is the video's own.
        """
        key = name_key(video)
        candidates = self._known.get(key, [])
        if not _NUMBER.fullmatch(key):
            return (candidates[0], True) if candidates else None
        sure = [other for other in candidates if of_set == other.set and of_set is not None]
        open_ = [other for other in candidates if None in (of_set, other.set)]
        return ((sure or open_)[0], bool(sure)) if sure or open_ else None
