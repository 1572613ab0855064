"""Rows from a folder in the layout of the ShareGPTVideo release, and from a synthetic world."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sharegptvideo._io import numbered_lines, open_lines, os_error_words, os_errors, parse_row
from sharegptvideo.data.schema import CONFIGS, Config
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.report import OnError, ReadReport, refuse
from sharegptvideo.data.sources.rows import RowError, convert
from sharegptvideo.data.sources.splits import SplitRule
from sharegptvideo.errors import UserError

__all__ = [
    "FOLDER",
    "Ids",
    "LineFile",
    "ReleaseSource",
    "converted",
    "read_files",
    "stat_key",
    "subject",
]

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
        """The splits of the release; `validation` may turn out empty on a small source."""
        self._paths(config)
        return config.released

    def fingerprint(self, config: Config) -> list[str]:
        """Path, size and times of each file read, and of a split list."""
        extra = [self.root / "splits.json"]
        return [*map(stat_key, self._paths(config) + [p for p in extra if p.exists()]), self.label]

    def rows(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        """The rows of one split, in order of file name and line."""
        rule = SplitRule.of(self.root)
        yield from read_files(config, self.files(config), split, rule, self.label, on_error, report)

    def files(self, config: Config) -> list[LineFile]:
        """The files of a config in the order they are read, for who wants the raw lines.

        Raises:
            UserError: there are none; says where they were looked for.
        """
        return [LineFile(str(path), _Opener(path)) for path in self._paths(config)]

    def _paths(self, config: Config) -> list[Path]:
        bases = [self.root / FOLDER, self.root]
        bases += [self.root / name / FOLDER for name in _REPOSITORIES]
        for base in bases:
            found = _line_files(base, config.file)
            if found:
                return found
        for base in bases:
            _check_rights((base / config.file).parent)
        usual = CONFIGS[config.name].file
        others = [file.name for base in bases for file in _line_files(base, usual)]
        if config.file != usual and others:
            raise UserError(
                f"{self.root}: {config.name} has no file {config.file.rpartition('/')[2]!r} "
                f"(there: {', '.join(others)})"
            )
        raise UserError(
            f"{self.root}: no {FOLDER}/{config.file} for config {config.name!r}; "
            "source= must be a folder in the release layout"
        )


def _line_files(base: Path, pattern: str) -> list[Path]:
    """The files of a pattern, plain or packed (`.gz`); of a file in both forms the plain one."""
    with os_errors(base, action="read"):
        found = {path for path in base.glob(pattern) if path.is_file()}
        packed = {path for path in base.glob(f"{pattern}.gz") if path.is_file()}
    return sorted(found | {path for path in packed if path.with_suffix("") not in found})


def _check_rights(folder: Path) -> None:
    """Looking for files passes in silence over a folder that may not be read; this does not.

    Raises:
        UserError: `folder`, or one above it, may not be entered or listed.
    """
    try:
        os.scandir(folder).close()
    except PermissionError as error:
        raise UserError(f"{folder}: cannot be listed ({os_error_words(error)})") from error
    except OSError:
        return  # absent, or a file: so says the error that follows


@dataclass(frozen=True, slots=True)
class _Opener:
    path: Path

    def __call__(self) -> IO[bytes]:
        return open_lines(self.path)


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
    ids = Ids()
    for file in files:
        for where, row in _converted(config, file, label, on_error, report):
            if ids.repeats(row):
                report.repeated.append(where)
                continue
            row["id"] = ids.unique(row["id"])
            if config.is_task or rule.split_of(subject(row)) == split:
                yield row
        ids.end_file()


def _converted(
    config: Config, file: LineFile, label: str, on_error: OnError, report: ReadReport
) -> Iterator[tuple[str, Row]]:
    with file.open() as lines:
        numbered = numbered_lines(file.name, lines)
        for number, row in converted(config, file.name, numbered, label, on_error, report):
            yield f"{file.name}:{number}", row


def converted(
    config: Config,
    name: str,
    lines: Iterable[tuple[int, bytes]],
    label: str,
    on_error: OnError,
    report: ReadReport,
) -> Iterator[tuple[int, Row]]:
    """Schema rows, with their lines' numbers, from numbered lines of the file `name`.

    Raises:
        UserError: `FILE:LINE: cause`, unless `on_error` is "skip".
    """
    for number, line in lines:
        try:
            row = convert(config, parse_row(name, number, line), label)
        except RowError as error:
            refuse(f"{name}:{number}: {error}", on_error, report)
        except UserError as error:
            if on_error == "raise":
                raise
            report.skipped.append(str(error))
        else:
            yield number, row


def subject(row: Row) -> str:
    """What a row is about, for the split: its video, else its image, else itself."""
    return str(row.get("video") or row.get("image") or row["id"])


@dataclass(slots=True)
class Ids:
    """Ids and contents met so far, as 64-bit hashes: 900k rows take about 100 MB."""

    used: set[int] = field(default_factory=set)
    earlier: set[int] = field(default_factory=set)
    current: set[int] = field(default_factory=set)

    def repeats(self, row: Row) -> bool:
        """Whether an earlier file has this row, word for word; remembers it."""
        content = hash(tuple(map(str, row.values())))
        if content in self.earlier:
            return True
        self.current.add(content)
        return False

    def unique(self, name: str) -> str:
        """`name`, or where it is taken `name#2`, `name#3` ..."""
        number, candidate = 1, name
        while hash(candidate) in self.used:
            number += 1
            candidate = f"{name}#{number}"
        self.used.add(hash(candidate))
        return candidate

    def all_unique(self, names: list[str]) -> list[str]:
        """`unique` for many names at once; `names` itself where none was taken."""
        fresh = set(map(hash, names))
        if len(fresh) == len(names) and fresh.isdisjoint(self.used):
            self.used |= fresh
            return names
        return [self.unique(name) for name in names]

    def end_file(self) -> None:
        """What was remembered counts as an earlier file's from here on."""
        self.earlier |= self.current
        self.current.clear()
