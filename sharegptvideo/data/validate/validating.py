"""Put the checks together: read every row once, then look at what only shows in all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo.data.schema import Config, config_of
from sharegptvideo.data.sources import held_configs, open_source
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.sources.release import FOLDER, ReleaseSource
from sharegptvideo.data.validate.checks import CHECKS, Severity, known_checks
from sharegptvideo.data.validate.reading import Places, ReadRow, read_config
from sharegptvideo.data.validate.report import Report
from sharegptvideo.data.validate.rows import RowChecks
from sharegptvideo.data.validate.texts import MAX_CHARS
from sharegptvideo.data.validate.videos import Role, Use, Videos, role_of
from sharegptvideo.errors import UserError

__all__ = ["validate"]

PathLike = str | os.PathLike[str]

# Of the release: about images alone, and read by no config.
_ABOUT_IMAGES = frozenset({"image_caption_pretrain.jsonl"})


def validate(
    folder: PathLike,
    *,
    configs: Sequence[str] = (),
    media: Sequence[PathLike] = (),
    against: PathLike | None = None,
    look: bool = True,
    ignore: Iterable[str] = (),
    max_chars: int = MAX_CHARS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check a folder of data; nothing in it is changed, but a media folder gets its index.

    Args:
        folder: the release layout, or Parquet made by this package.
        configs: those to check; all that the folder has if empty.
        media: folders with the videos. Without any, nothing is said about clips.
        against: another folder whose test sets the training videos are compared with, besides
            those in `folder`; its rows are not checked.
        look: whether training and test clips are compared by what they show.
        ignore: names of checks to leave out.
        max_chars: texts longer than this are told of.
        workers: processes or threads that open clips; one a core if None. With media and more
            than one, a script that calls this needs `if __name__ == "__main__"`.
        progress: called with (done, total, what).

    Raises:
        UserError: no such folder, no data in it, an unknown config or check, no such media.
    """
    report = Report(str(folder))
    for name in sorted(known_checks(ignore)):
        report.skipped[name] = "left out as asked"
    root, tell = Path(folder).expanduser(), progress or _quiet
    for path in [root] if against is None else [root, Path(against).expanduser()]:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give one in the release layout or of Parquet")
    asked = list(dict.fromkeys(config_of(name) for name in configs))
    run = _Run(report, tell)
    chosen = asked or held_configs(root)
    for config in chosen:
        checks = RowChecks(config, root, report, max_chars)
        run.places[config.name] = checks.places
        checks.run(run.videos, tell)
    if not asked:
        _unread_files(root, chosen, report)
    if against is not None:
        run.take_tests(Path(against).expanduser())
    report.videos = len(run.videos.names())
    run.compare_names()
    run.compare_clips([Path(path).expanduser() for path in media], look, workers)
    return report


def _quiet(_done: int, _total: int, _what: str) -> None:
    """Shows nothing."""


class _Run:
    """What is known across configs: the videos, and where each row stands."""

    def __init__(self, report: Report, progress: Progress) -> None:
        self.report = report
        self.progress = progress
        self.videos = Videos()
        self.places: dict[str, Places] = {}

    def take_tests(self, folder: Path) -> None:
        """The videos of another folder's test sets.

        Raises:
            UserError: it has none.
        """
        found = 0
        for config in held_configs(folder):
            if not config.is_task:
                continue
            label = f"{config.name} in {folder}"
            places = self.places[label] = Places()
            for read in read_config(config, open_source(config, folder)):
                if isinstance(read, ReadRow) and role_of(read.split) == "test":
                    row = places.add(read)
                    video = read.row["video"]
                    self.videos.add("test", video, label, config.name.split("_")[0], row)
                    found += 1
        if not found:
            raise UserError(
                f"{folder}: no test rows to compare with; --against is a folder of them"
            )

    def compare_names(self) -> None:
        """Training videos that are test or validation videos by their names."""
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
                    f"{use.video} ({use.told_rows}) is {other.video} of {other.config}, "
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

    def compare_clips(self, media: list[Path], look: bool, workers: int | None) -> None:
        """Clips that are missing or broken, and training clips that show what test clips show."""
        if not media:
            for check in CHECKS.values():
                if check.needs_media:
                    self.report.skipped.setdefault(check.name, "no media folder was given")
            return
        from sharegptvideo.data.validate.clips import check_media, compare_sights

        if not look:
            self.report.skipped.setdefault("leak-sight", "clips were not looked at, as asked")
        shelves = check_media(
            media, self.videos, self.report, self.note, workers=workers, progress=self.progress
        )
        if "leak-sight" not in self.report.skipped:
            compare_sights(
                shelves,
                self.videos,
                self.report,
                self.note,
                workers=workers,
                progress=self.progress,
            )

    def note(self, check: str, use: Use, message: str, *, severity: Severity | None = None) -> None:
        """A finding about a video, at the first row that is about it."""
        places = self.places[use.config]
        self.report.add(
            check,
            message,
            severity=severity,
            config=use.config,
            split=places.split(use.row),
            where=places.where(use.row),
        )


def _unread_files(folder: Path, chosen: Sequence[Config], report: Report) -> None:
    """Data files in the places where data belong that nothing reads: a typing error, often."""
    read = {path.resolve() for config in chosen for path in _paths_of(config, folder)}
    there = [*folder.glob("*/*.parquet"), *folder.glob(f"**/{FOLDER}/**/*.jsonl*")]
    for path in sorted(set(there)):
        if path.resolve() not in read and path.name not in _ABOUT_IMAGES:
            report.add("unread-file", "no config has such a file or split", where=str(path))


def _paths_of(config: Config, folder: Path) -> list[Path]:
    source = open_source(config, folder)
    if isinstance(source, ParquetSource):
        return [path for split in config.splits for path in source.paths(config, split)]
    return (
        [Path(file.name) for file in source.files(config)]
        if isinstance(source, ReleaseSource)
        else []
    )
