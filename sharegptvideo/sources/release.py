"""Rows from a folder in the layout of the ShareGPTVideo release, and from a synthetic world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sharegptvideo.errors import UserError
from sharegptvideo.schema import Config
from sharegptvideo.sources.base import Row
from sharegptvideo.sources.report import OnError, ReadReport, refuse
from sharegptvideo.sources.rows import RowError, convert
from sharegptvideo.sources.splits import SplitRule
from sharegptvideo.storage import parse_row

__all__ = ["FOLDER", "LineFile", "ReleaseSource", "read_files", "stat_key"]

FOLDER = "video_instruction"

# `hf download` of both repositories into one folder gives these two side by side.
_REPOSITORIES = ("train_video_and_instruction", "test_video_and_instruction")


@dataclass(frozen=True, slots=True)
class LineFile:
    """A JSONL file: the name for messages, and how to open it for reading bytes."""

    name: str
    open: Callable[[], IO[bytes]]


class ReleaseSource:
    """A local copy of the release, or anything laid out like it.

    `root` is the folder that holds `video_instruction/`, that folder itself, or the folder
    above local copies of the two repositories.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # The synthetic world keeps its exact states beside its rows; no release does.
        self.label = "synthetic" if (root / "states.jsonl").exists() else "release"

    def splits(self, config: Config) -> tuple[str, ...]:
        """The config's own splits; `validation` may turn out empty on a small source."""
        self._paths(config)
        return config.splits

    def fingerprint(self, config: Config) -> list[str]:
        """Path, size and times of each file read, and of a split list."""
        extra = [self.root / "splits.json"]
        return [*map(stat_key, self._paths(config) + [p for p in extra if p.exists()]), self.label]

    def rows(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        """The rows of one split, in order of file name and line."""
        files = [LineFile(str(path), _Opener(path)) for path in self._paths(config)]
        rule = SplitRule.of(self.root)
        yield from read_files(config, files, split, rule, self.label, on_error, report)

    def _paths(self, config: Config) -> list[Path]:
        bases = [self.root / FOLDER, self.root]
        bases += [self.root / name / FOLDER for name in _REPOSITORIES]
        for base in bases:
            found = sorted(path for path in base.glob(config.file) if path.is_file())
            if found:
                return found
        raise UserError(
            f"{self.root}: no {FOLDER}/{config.file} for config {config.name!r}; "
            "source= must be a folder in the release layout"
        )


@dataclass(frozen=True, slots=True)
class _Opener:
    path: Path

    def __call__(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error


def stat_key(path: Path) -> str:
    """A text that changes with the file at `path`: where it is, its size, its times."""
    stat = path.stat()
    return f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"


def read_files(
    config: Config,
    files: Iterable[LineFile],
    split: str,
    rule: SplitRule,
    label: str,
    on_error: OnError,
    report: ReadReport,
) -> Iterator[Row]:
    """Schema rows of one split from JSONL files of the release.

    Ids are unique: the second row of an id becomes `ID#2`, the third `ID#3`. A row that an
    earlier *file* holds too, word for word (the release's 240k questions are among its 900k),
    is left out and listed in `report.repeated`; within one file every row stays. Both are
    decided before the split, so an id means the same row whichever split is read.

    Raises:
        UserError: `FILE:LINE: cause`, unless `on_error` is "skip".
    """
    ids = _Ids()
    for file in files:
        for where, row in _converted(config, file, label, on_error, report):
            if ids.repeats(row):
                report.repeated.append(where)
                continue
            row["id"] = ids.unique(row["id"])
            if config.is_task or rule.split_of(_subject(row)) == split:
                yield row
        ids.end_file()


def _converted(
    config: Config, file: LineFile, label: str, on_error: OnError, report: ReadReport
) -> Iterator[tuple[str, Row]]:
    with file.open() as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file.name}:{number}"
            try:
                row = convert(config, parse_row(file.name, number, line), label)
            except RowError as error:
                refuse(f"{where}: {error}", on_error, report)
            except UserError as error:
                if on_error == "raise":
                    raise
                report.skipped.append(str(error))
            else:
                yield where, row


def _subject(row: Row) -> str:
    """What a row is about, for the split: its video, else its image, else itself."""
    return str(row.get("video") or row.get("image") or row["id"])


@dataclass(slots=True)
class _Ids:
    """Ids and contents met so far, as 64-bit hashes: 900k rows take about 100 MB."""

    used: set[int] = field(default_factory=set)
    earlier: set[int] = field(default_factory=set)
    current: set[int] = field(default_factory=set)

    def repeats(self, row: Row) -> bool:
        content = hash(tuple(map(str, row.values())))
        if content in self.earlier:
            return True
        self.current.add(content)
        return False

    def unique(self, name: str) -> str:
        number, candidate = 1, name
        while hash(candidate) in self.used:
            number += 1
            candidate = f"{name}#{number}"
        self.used.add(hash(candidate))
        return candidate

    def end_file(self) -> None:
        self.earlier |= self.current
        self.current.clear()
