"""Checks of the clips that rows name: there, readable, and not in training and test both."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sharegptvideo._concurrency import Progress
from sharegptvideo._text import few, percent
from sharegptvideo.data.validate.checks import Severity
from sharegptvideo.data.validate.copies import Gallery, Match
from sharegptvideo.data.validate.fingerprint import Look
from sharegptvideo.data.validate.fingerprint_cache import LookStore
from sharegptvideo.data.validate.report import Report
from sharegptvideo.data.validate.videos import Use, Videos, name_key
from sharegptvideo.media import MediaError
from sharegptvideo.media.index import MediaIndex, index_media

__all__ = ["check_media", "compare_sights"]


_STEP = 100
_TOLD_S = 0.5


class NoteUse(Protocol):
    """Adds a finding about a video to the report, at the row that first uses it."""

    def __call__(
        self, check: str, use: Use, message: str, *, severity: Severity | None = None
    ) -> None: ...


@dataclass(slots=True)
class Shelves:
    """Media folders searched one after the other."""

    indexes: list[MediaIndex]

    def find(self, video: str) -> Path | None:
        """The clip of a video, if one of the folders has it and can read it."""
        for index in self.indexes:
            try:
                path = index.folder.resolve(video)
            except MediaError:
                return None
            if path is not None:
                return None if self._error(index, path) else path
        return None

    def fault(self, video: str) -> tuple[str, str] | None:
        """(check, message) of what is wrong with the clip of a video."""
        for index in self.indexes:
            try:
                path = index.folder.resolve(video)
            except MediaError as error:
                return "ambiguous-media", str(error)
            if path is not None:
                cause = self._error(index, path)
                return ("unreadable-media", f"{path}: {cause}") if cause else None
        return "missing-media", f"no clip for {video}"

    @staticmethod
    def _error(index: MediaIndex, path: Path) -> str | None:
        return index.errors.get(path.relative_to(index.folder.root).as_posix())


def check_media(
    media: Sequence[Path],
    videos: Videos,
    report: Report,
    note: NoteUse,
    *,
    workers: int | None,
    progress: Progress,
) -> Shelves:
    """Note the videos that have no clip, a broken one, or several; gives where to find the rest.

    Raises:
        UserError: no such media folder, or one that cannot be listed.
    """
    shelves = Shelves([index_media(root, workers=workers, progress=progress) for root in media])
    names = videos.names()
    for video in names:
        fault = shelves.fault(video)
        if fault:
            for use in videos.uses(video):
                note(fault[0], use, f"{fault[1]} ({use.told_rows})")
    report.facts["media"] = {
        "folders": [str(index.root) for index in shelves.indexes],
        "clips": sum(len(index) for index in shelves.indexes),
        "unreadable": sum(len(index.errors) for index in shelves.indexes),
    }
    return shelves


@dataclass(slots=True)
class _Tally:
    looked: int = 0
    blank: int = 0
    found: int = 0
    known_by_name: int = 0
    places: list[Use] = field(default_factory=list)


def compare_sights(
    shelves: Shelves,
    videos: Videos,
    report: Report,
    note: NoteUse,
    *,
    workers: int | None,
    progress: Progress,
) -> None:
    """Note the training clips that show what a test clip shows, unless their names tell so too.

    The test clips are kept in memory, about 7 kB for ten seconds of video; training clips pass.
    """
    tally = _Tally()
    with LookStore(workers) as store:
        looker = _Looker(shelves, store, note, progress)
        tests = list(looker.looks(list(videos.of("test")), "test clips looked at"))
        gallery = Gallery([look for _, look in tests])
        tally.places = [use for use, _ in tests]
        for use, look in looker.looks(list(videos.of("train")), "training clips looked at"):
            tally.looked += 1
            tally.blank += len(look.ticks) < 2
            _note_matches(use, gallery.find(look), tally, note)
        figures: dict[str, Any] = {
            "test_clips": len(tests),
            "training_clips": tally.looked,
            "showing_too_little": tally.blank + gallery.blank,
            "training_clips_found": tally.found,
            "of_these_by_name_too": tally.known_by_name,
            "looked_at_now": store.taken,
            "looked_at_before": store.kept,
        }
    if store.trouble:
        figures["cache"] = store.trouble
    report.facts["sight"] = figures


@dataclass(frozen=True, slots=True)
class _Looker:
    shelves: Shelves
    store: LookStore
    note: NoteUse
    progress: Progress

    def looks(self, uses: list[Use], what: str) -> Iterator[tuple[Use, Look]]:
        """Each video that has a clip, with the clip's look."""
        waiting: deque[tuple[int, Use]] = deque()

        def paths() -> Iterator[Path]:
            for number, use in enumerate(uses, start=1):
                path = self.shelves.find(use.video)
                if path is not None:
                    waiting.append((number, use))
                    yield path

        for path, look in self.store.looks(paths()):
            number, use = waiting.popleft()
            if number % _STEP == 0:
                self.progress(number, len(uses), what)
            if not look.readable:
                # The index opens a clip, here it is decoded: more shows.
                self.note("unreadable-media", use, f"{path}: {look.damage} ({use.told_rows})")
            yield use, look
        self.progress(len(uses), len(uses), what)


def _note_matches(use: Use, matches: list[Match], tally: _Tally, note: NoteUse) -> None:
    if not matches:
        return
    tally.found += 1
    others = [(tally.places[match.place], match) for match in matches]
    if any(name_key(other.video) == name_key(use.video) for other, _ in others):
        tally.known_by_name += 1
        return
    other, match = others[0]
    note(
        "leak-sight",
        use,
        f"{use.video} ({use.told_rows}) shows what {other.video} of {other.config} shows: "
        f"{'; '.join(few([_told(match)], 1, total=len(others)))}",
        severity=None if match.sure else "warning",
    )


def _told(match: Match) -> str:
    """A match in words."""
    shift = ""
    if match.seconds >= _TOLD_S:
        shift = f", from its second {match.seconds:g}"
    elif match.seconds <= -_TOLD_S:
        shift = f", from {-match.seconds:g} s before it"
    turned = ", mirrored" if match.mirrored else ""
    return (
        f"{percent(match.alike, 0)} of {match.overlap} samples alike, "
        f"{percent(match.distance, 0)} of signs differ{shift}{turned}"
    )
