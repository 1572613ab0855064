"""Videos that rows name: what they are used for, and which of them are the same by name."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from sharegptvideo._text import plural
from sharegptvideo.data.sources.rows import SETS
from sharegptvideo.data.sources.splits import stem_of

__all__ = ["Role", "Use", "Videos", "name_key", "role_of"]

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


def _set_of(video: str, source: str | None) -> str | None:
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
        label = (config, _set_of(video, source or config.split("_")[0]))
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
        """Yield (use in training, use held out, whether the name is enough to be sure).

        A name that is merely a number belongs to several sets: it is passed over where the two
        sets are known and differ, and uncertain where one is unknown.
        """
        known: dict[str, list[Use]] = {}
        for use in self.of(held_out):
            known.setdefault(name_key(use.video), []).append(use)
        if not known:
            return
        for use in self.of("train"):
            key = name_key(use.video)
            candidates = known.get(key, [])
            if not _NUMBER.fullmatch(key):
                if candidates:
                    yield use, candidates[0], True
                continue
            sure = [other for other in candidates if use.set == other.set and use.set is not None]
            open_ = [other for other in candidates if None in (use.set, other.set)]
            if sure or open_:
                yield use, (sure or open_)[0], bool(sure)
