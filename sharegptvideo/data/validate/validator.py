"""Validation of a folder: every row read once, then the checks that need all of them.

Those are of the videos that rows name: whether a training video is a test video too, by its name
or by what its clip shows, and whether each clip is there and readable.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sharegptvideo._concurrency import Progress, no_progress
from sharegptvideo._text import few
from sharegptvideo.data.schema import Config, config_of
from sharegptvideo.data.sources import held_configs, open_source
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.sources.release import FOLDER, ReleaseSource
from sharegptvideo.data.validate.clips import Shelves, described, fingerprints_of
from sharegptvideo.data.validate.copies import Gallery, Match
from sharegptvideo.data.validate.fingerprint import Fingerprint, FingerprintCache
from sharegptvideo.data.validate.reading import Places, test_rows
from sharegptvideo.data.validate.report import CHECKS, Report, Severity, known_checks
from sharegptvideo.data.validate.rows import RowChecks
from sharegptvideo.data.validate.texts import MAX_CHARS
from sharegptvideo.data.validate.videos import Role, Use, Videos, name_key
from sharegptvideo.errors import UserError
from sharegptvideo.media import ImageFolder, MediaError
from sharegptvideo.media.index import MediaIndex, check_images, index_media

__all__ = ["validate"]

PathLike = str | os.PathLike[str]

_STEP = 100


def validate(
    folder: PathLike,
    *,
    configs: Sequence[str] = (),
    media: Sequence[PathLike] = (),
    against: PathLike | Sequence[PathLike] | None = None,
    compare_clips: bool = True,
    ignore: Iterable[str] = (),
    max_chars: int = MAX_CHARS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check a folder of data; nothing in it is changed, but a media folder gets its index.

    Args:
        folder: the release layout, or Parquet made by this package.
        configs: those to check; all that the folder has if empty.
        media: folders with the videos and images. Without any, nothing is said about these.
        against: another folder, or several, whose test sets the training videos are compared
            with, besides those in `folder`; their rows are not checked.
        compare_clips: whether training and test clips are compared by what they show.
        ignore: names of checks to leave out.
        max_chars: texts longer than this are reported.
        workers: processes or threads that open clips; one a core if None. With media and more
            than one, a script that calls this needs `if __name__ == "__main__"`.
        progress: called with (done, total, what).

    Raises:
        UserError: no such folder, no data in it, an unknown config or check, no such media.
    """
    report = Report(str(folder))
    for name in sorted(known_checks(ignore)):
        report.skipped[name] = "left out as asked"
    root = Path(folder).expanduser()
    given = [against] if isinstance(against, str | os.PathLike) else against or ()
    others = [Path(path).expanduser() for path in given]
    for path in [root, *others]:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give one in the release layout or of Parquet")
    validator = _Validator(report, progress or no_progress, workers)
    named = list(dict.fromkeys(config_of(name) for name in configs))
    selected = named or held_configs(root)
    for config in selected:
        checks = RowChecks(config, root, report, max_chars)
        validator.places[config.name] = checks.places
        checks.run({"video": validator.videos, "image": validator.images}, validator.progress)
    if not named:
        _note_unread_files(root, selected, report)
    for path in others:
        validator.take_tests(path)
    report.videos = len(validator.videos.names())
    report.images = len(validator.images.names())
    validator.compare_names()
    if not media:
        for check in CHECKS.values():
            if check.needs_media:
                report.skipped.setdefault(check.name, "no media folder was given")
        return report
    if not compare_clips:
        report.skipped.setdefault("leak-sight", "clips were not compared, as asked")
    shelves = validator.check_media([Path(path).expanduser() for path in media])
    if "leak-sight" not in report.skipped:
        validator.compare_clips(shelves)
    return report


def _note_unread_files(folder: Path, selected: Sequence[Config], report: Report) -> None:
    """Note data files in the places where data belong that nothing reads: a typing error, often."""
    read = {path.resolve() for config in selected for path in _paths_of(config, folder)}
    # Where readers look, and not among the media, nor in what a client of the Hub keeps (.cache).
    places = ("*/*.parquet", f"{FOLDER}/**/*.jsonl*", f"*/{FOLDER}/**/*.jsonl*")
    for path in sorted({path for place in places for path in folder.glob(place)}):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.resolve() not in read:
            report.add("unread-file", "no config has such a file or split", where=str(path))


def _paths_of(config: Config, folder: Path) -> list[Path]:
    source = open_source(config, folder)
    if isinstance(source, ParquetSource):
        return [path for split in config.splits for path in source.paths(config, split)]
    if isinstance(source, ReleaseSource):
        return [Path(file.name) for file in source.files(config)]
    return []


@dataclass(slots=True)
class _Tally:
    compared: int = 0
    blank: int = 0
    matched: int = 0
    known_by_name: int = 0


@dataclass(slots=True)
class _Validator:
    """What is known across configs: the videos and images, and where each row stands."""

    report: Report
    progress: Progress
    workers: int | None
    videos: Videos = field(default_factory=Videos)
    images: Videos = field(default_factory=Videos)
    places: dict[str, Places] = field(default_factory=dict)

    def take_tests(self, folder: Path) -> None:
        """Take in the videos of another folder's test sets.

        Raises:
            UserError: it has none.
        """
        labels: dict[str, str] = {}
        for config, read in test_rows(folder):
            label = labels.setdefault(config.name, f"{config.name} in {folder}")
            places = self.places.setdefault(label, Places())
            row = places.add(read)
            self.videos.add("test", read.row["video"], label, config.name.split("_")[0], row)

    def compare_names(self) -> None:
        """Note training videos that are test or validation videos by their names."""
        if not self._can_compare("leak-name"):
            self.report.skipped.setdefault("leak-sight", self.report.skipped["leak-name"])
        pairs: tuple[tuple[Role, str], ...] = (
            ("test", "leak-name"),
            ("validation", "leak-validation"),
        )
        for held_out, check in pairs:
            for use, other, sure in self.videos.same_name(held_out):
                doubt = "" if sure else "; a bare number, which several sets use"
                self.note(
                    check,
                    use,
                    f"{use.video} ({use.row_count}) is {other.video} of {other.config}, "
                    f"{self.places[other.config].where(other.row)}{doubt}",
                    severity=None if sure else "warning",
                )

    def _can_compare(self, check: str) -> bool:
        reasons: tuple[tuple[Role, str], ...] = (
            ("train", "there are no training rows"),
            ("test", "there are no test rows; --against FOLDER has some"),
        )
        for role, reason in reasons:
            if not any(True for _ in self.videos.of(role)):
                self.report.skipped.setdefault(check, reason)
                return False
        return True

    def check_media(self, media: Sequence[Path]) -> Shelves:
        """Note media that are missing, broken, or there twice; return where the clips are.

        Raises:
            UserError: no such media folder, or one that cannot be listed.
        """
        shelves = Shelves(
            [index_media(root, workers=self.workers, progress=self.progress) for root in media]
        )
        for video in self.videos.names():
            problem = shelves.problem(video)
            if problem:
                for use in self.videos.uses(video):
                    self.note(problem[0], use, f"{problem[1]} ({use.row_count})")
        self._check_images(shelves.indexes)
        self.report.facts["media"] = {
            "folders": [str(index.root) for index in shelves.indexes],
            "clips": sum(len(index) for index in shelves.indexes),
            "unreadable": sum(len(index.errors) for index in shelves.indexes),
        }
        return shelves

    def _check_images(self, indexes: Sequence[MediaIndex]) -> None:
        """Note the images that no folder has, that fit two files, or that cannot be read."""
        folders = [ImageFolder(index.root) for index in indexes]
        there: dict[int, dict[str, str]] = {number: {} for number in range(len(indexes))}
        for image in self.images.names():
            try:
                paths = ((n, folder.locate(image)) for n, folder in enumerate(folders))
                place, path = next(((n, one) for n, one in paths if one is not None), (0, None))
            except MediaError as error:
                self._note_image("ambiguous-media", image, str(error))
                continue
            if path is None:
                self._note_image("missing-media", image, f"no image {image}")
            else:
                there[place][path] = image
        for place, images in there.items():
            index = indexes[place]
            errors = check_images(index, images, workers=self.workers, progress=self.progress)
            for path, cause in errors.items():
                self._note_image("unreadable-media", images[path], f"{index.root / path}: {cause}")

    def _note_image(self, check: str, image: str, message: str) -> None:
        for use in self.images.uses(image):
            self.note(check, use, f"{message} ({use.row_count})")

    def compare_clips(self, shelves: Shelves) -> None:
        """Note training clips that show what a test clip shows, unless their names say so too.

        The test clips are kept in memory, about 7 kB for ten seconds of video; training clips pass.
        """
        tally = _Tally()
        with FingerprintCache(self.workers) as cache:
            tests = list(self._fingerprints(shelves, cache, "test", "test clips compared"))
            gallery = Gallery([fingerprint for _, fingerprint in tests])
            for use, fingerprint in self._fingerprints(
                shelves, cache, "train", "training clips compared"
            ):
                tally.compared += 1
                tally.blank += len(fingerprint.ticks) < 2
                matches = [(tests[m.place][0], m) for m in gallery.find(fingerprint)]
                if matches:
                    self._note_matches(use, matches, tally)
            figures = {
                "test_clips": len(tests),
                "training_clips": tally.compared,
                "showing_too_little": tally.blank + gallery.blank,
                "training_clips_found": tally.matched,
                "of_these_by_name_too": tally.known_by_name,
                "looked_at_now": cache.taken,
                "looked_at_before": cache.kept,
            }
        problem = {"cache": cache.problem} if cache.problem else {}
        self.report.facts["sight"] = figures | problem

    def _fingerprints(
        self, shelves: Shelves, cache: FingerprintCache, role: Role, what: str
    ) -> Iterator[tuple[Use, Fingerprint]]:
        """Yield each video of a role that has a clip, with the clip's fingerprint."""
        uses = list(self.videos.of(role))
        clips = (
            ((number, use), path)
            for number, use in enumerate(uses, start=1)
            if (path := shelves.find(use.video)) is not None
        )
        with contextlib.closing(fingerprints_of(cache, clips)) as fingerprints:
            for (number, use), path, fingerprint in fingerprints:
                if number % _STEP == 0:
                    self.progress(number, len(uses), what)
                if not fingerprint.readable:
                    # The index opens a clip, here it is decoded: more shows.
                    message = f"{path}: {fingerprint.damage} ({use.row_count})"
                    self.note("unreadable-media", use, message)
                yield use, fingerprint
        self.progress(len(uses), len(uses), what)

    def _note_matches(self, use: Use, matches: list[tuple[Use, Match]], tally: _Tally) -> None:
        tally.matched += 1
        if any(name_key(other.video) == name_key(use.video) for other, _ in matches):
            tally.known_by_name += 1
            return
        other, match = matches[0]
        self.note(
            "leak-sight",
            use,
            f"{use.video} ({use.row_count}) shows what {other.video} of {other.config} shows: "
            f"{'; '.join(few([described(match)], 1, total=len(matches)))}",
            severity=None if match.sure else "warning",
        )

    def note(self, check: str, use: Use, message: str, *, severity: Severity | None = None) -> None:
        """Add a finding about a video to the report, at the first row that is about it."""
        places = self.places[use.config]
        self.report.add(
            check,
            message,
            severity=severity,
            config=use.config,
            split=places.split(use.row),
            where=places.where(use.row),
        )
