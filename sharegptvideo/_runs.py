"""A folder that keeps its settings beside its results and refuses results of other settings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from sharegptvideo._concurrency import in_background
from sharegptvideo._io import KeyedLog, RowCheck, dumps, making, os_errors, read_json, write_json
from sharegptvideo.errors import UserError

__all__ = ["RunDir", "RunKind", "check_place", "differences", "folder_lock"]

_LOCK = ".lock"
_MOST_CHANGES = 6
_MOST_CHARACTERS = 40
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class RunKind:
    """How a kind of run folder is named in errors, and how its settings lie in it.

    Attributes:
        name: ends the sentence "not empty and not a ...".
        other: ends the sentence "holds ...", where the settings differ.
        fix: what to do about a folder that holds something else.
        fix_mix: what to do about a folder of other settings.
        file: the name of the file with the settings.
        section: the key of that file with the settings, beside "report"; None: it has only them.
        required: keys without which the file was written by something else.
        foreign: pattern of the files that a folder without settings may not have; None: any may.
        locked: whether one process at a time may open the folder.
        prefix: begins each error, such as with the option that names the folder.
    """

    name: str = "run folder"
    other: str = "another run"
    fix: str = "give another --out"
    fix_mix: str = "give another --out, or the settings there"
    file: str = "run.json"
    section: str | None = None
    required: frozenset[str] = frozenset()
    foreign: str | None = "*"
    locked: bool = False
    prefix: str = ""

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return the contents of the settings' file in `path`, or None where it may be made.

        Raises:
            UserError: `path` is a file or holds something else.
        """
        file = path / self.file
        if file.is_file():
            contents = read_json(file)
            whole = isinstance(contents, dict) and self.required <= contents.keys()
            if not whole or (self.section and not isinstance(contents.get(self.section), dict)):
                raise UserError(
                    f"{self.prefix}{file}: not the settings of a {self.name}; {self.fix}"
                )
            return dict(contents)
        check_place(path, self.fix, self.prefix)
        others = path.glob(self.foreign) if self.foreign and path.is_dir() else ()
        if any(other.name != _LOCK or not self.locked for other in others):
            raise UserError(f"{self.prefix}{path}: not empty and not a {self.name}; {self.fix}")
        return None

    def is_finished(self, path: Path) -> bool:
        """Return whether the results in `path` are whole: those without settings count as such."""
        contents = self.read(path)
        return contents is None or contents.get("report") is not None

    def refuse(self, path: Path, changes: Collection[str]) -> NoReturn:
        """Raise the error for a folder of other settings, `changes` as `differences` gives them."""
        shown = "; ".join(list(changes)[:_MOST_CHANGES])
        if len(changes) > _MOST_CHANGES:
            shown += f"; and {len(changes) - _MOST_CHANGES} more"
        raise UserError(
            f"{self.prefix}{path}: holds {self.other}: {shown}. To go on, {self.fix_mix}"
        )


def check_place(path: Path, fix: str = "give another --out", prefix: str = "") -> None:
    """Make sure that a folder can be at `path`, there or yet to be made: no file is in its way.

    Raises:
        UserError: one is; says which.
    """
    there = path.expanduser().absolute()
    while not (there.exists() or there.is_symlink()):
        there = there.parent
    if not there.is_dir():
        shown = path if there == path.expanduser().absolute() else there
        raise UserError(f"{prefix}{path}: {shown} is a file; {fix}")


class RunDir:
    """An open run folder, made where it is missing; a context manager that closes its logs.

    Subclasses whose settings grow, such as by a task, override `changes` and `merged`.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        kind: RunKind | None = None,
        *,
        may_change: Collection[str] = (),
        patience_s: float = 0.5,
    ) -> None:
        """Open `path` for results of `settings`, new or to be continued.

        Settings named in `may_change`, at any depth, may differ from those in the folder; the
        file then has the new ones.

        Settings that can take long to find out, such as the hash of large weights, are given as a
        function, which a thread calls. A folder with settings to compare with waits for it. A new
        one waits for `patience_s` seconds and goes on: its logs hold their rows in memory until
        the settings are there and written. What ends by an exception before that leaves no row.

        Raises:
            UserError: the folder holds results of other settings (names them) or something else,
                cannot be made, or is open in another process.
        """
        self.path = path
        self.kind = kind or RunKind()
        self.may_change = may_change
        self._logs: list[KeyedLog] = []
        self._settings: dict[str, Any] | None = None
        self._has_ended = False
        self._here: Future[Mapping[str, Any]] = Future()
        if callable(settings):
            self._here = in_background(settings)
        else:
            self._here.set_result(settings)
        with contextlib.ExitStack() as opened:
            self._compared(patience_s)  # before anything is made: a refused folder stays as it is
            if self.kind.locked:
                with os_errors(path, f"free some space or {self.kind.fix}", action="made"):
                    opened.enter_context(making(path))
                busy = f"{path}: another process is writing to this run; wait for it"
                opened.enter_context(folder_lock(path / _LOCK, busy))
            self._begin(0)  # compares again: another process may have begun and ended meanwhile
            self._opened = opened.pop_all()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in the folder; waits until they are known.

        Raises:
            UserError: they cannot be found out, or the folder holds others.
        """
        self.write_settings()
        assert self._settings is not None
        return self._settings

    def write_settings(self) -> None:
        """Wait for settings that come late, and write them and the rows that the logs hold.

        Raises:
            UserError: they cannot be found out, or the folder holds others.
        """
        self._begin(None)

    def changes(self, there: dict[str, Any], here: dict[str, Any]) -> list[str]:
        """Return a phrase for each setting that may not differ and does."""
        return list(differences(there, here, may_change=self.may_change))

    def merged(self, there: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
        """Return what to keep, given settings that go together."""
        del there
        return here

    def log(
        self,
        name: str,
        key: str | tuple[str, ...] = "id",
        check: RowCheck | None = None,
        keep: Callable[[dict[str, Any]], Any] | None = lambda row: row,
    ) -> KeyedLog:
        """Open `NAME.jsonl` in the folder, as `KeyedLog`; it is closed with the folder."""
        file = self.path / f"{name}.jsonl"
        log = self._opened.enter_context(
            KeyedLog(file, key, check, may_write=self._may_write, keep=keep)
        )
        self._logs.append(log)
        return log

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the report beside the settings: from here on the results count as finished.

        The logs are closed, and so on the disk, before.
        """
        self.write_settings()
        for log in self._logs:
            log.close()
        self._write(report)

    def _compared(self, patience_s: float | None) -> dict[str, Any] | None:
        """Return the settings to keep, or None if they are not known in time; refuse others."""
        contents = self.kind.read(self.path)
        futures.wait([self._here], patience_s if contents is None else None)
        if not self._here.done():
            return None
        here: dict[str, Any] = json.loads(dumps(self._here.result()))  # as it will be read back
        if contents is None:
            return here
        there: dict[str, Any] = contents[self.kind.section] if self.kind.section else contents
        changes = self.changes(there, here)
        if changes:
            self.kind.refuse(self.path, changes)
        return self.merged(there, here)

    def _begin(self, patience_s: float | None) -> None:
        """Write the settings and what the logs hold, if they are known in time and not yet there.

        Args:
            patience_s: how long to wait for the settings; None: until they are known.
        """
        if self._settings is None:
            self._settings = self._compared(patience_s)
            if self._settings is not None:
                self._write(None)
                for log in self._logs:
                    log.write_held()

    def _may_write(self) -> bool:
        """Return whether the settings are in the folder, so that rows may follow."""
        if self._settings is None and self._here.done() and not self._has_ended:
            self._begin(0)
        return self._settings is not None

    def _write(self, report: Mapping[str, Any] | None) -> None:
        file, section = self.path / self.kind.file, self.kind.section
        contents = {section: self.settings, "report": report} if section else self.settings
        if not file.is_file() or read_json(file) != contents:
            write_json(file, contents)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.write_settings()
        finally:
            self._has_ended = True
            self._opened.close()


def differences(
    there: Any,
    here: Any,
    where: str = "",
    *,
    may_change: Collection[str] = (),
    added: Collection[str] = (),
) -> Iterator[str]:
    """Yield "NAME VALUE there, VALUE here" for each setting that differs, by its dotted name.

    Args:
        there: the settings in a folder.
        here: those asked for.
        where: the name of both, before the dot.
        may_change: keys that are left out, at any depth.
        added: keys that are left out where they are absent there, recorded since.

    >>> list(differences({"judge": {"version": 1}}, {"judge": {"version": 2}}))
    ['judge.version 1 there, 2 here']
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            if name not in may_change and (name in there or name not in added):
                yield from differences(
                    there.get(name, _ABSENT),
                    here.get(name, _ABSENT),
                    f"{where}.{name}" if where else name,
                    may_change=may_change,
                    added=added,
                )
    # A setting that is absent says as much as one without a value.
    elif (None if there is _ABSENT else there) != (None if here is _ABSENT else here):
        yield f"{where} {' there, '.join(_shown(there, here))} here"


def _shown(there: Any, here: Any) -> tuple[str, str]:
    """Two values that differ, each short, from where they differ if they begin alike."""
    texts = [value if isinstance(value, str) else _dumped(value) for value in (there, here)]
    if texts[0] == texts[1]:  # such as "1" and 1
        texts = [_dumped(there), _dumped(here)]
    pairs = enumerate(zip(*texts, strict=False))
    alike = next((i for i, (one, other) in pairs if one != other), min(map(len, texts)))
    if max(map(len, texts)) > _MOST_CHARACTERS and alike > _MOST_CHARACTERS // 2:
        start = alike - 10
        texts = [f"...{text[start:]}" for text in texts]
    first, second = (
        text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."
        for text in texts
    )
    return first, second


def _dumped(value: Any) -> str:
    return "absent" if value is _ABSENT else dumps(value)


@contextlib.contextmanager
def folder_lock(file: Path, busy: str) -> Iterator[None]:
    """Hold the lock `file`; the system releases it when the process dies.

    A lock file that was made for a block that fails is removed with it.

    Raises:
        UserError: another process holds it; `busy` is the message.
    """
    from filelock import FileLock, Timeout

    lock, fresh = FileLock(file, blocking=False), not file.exists()
    with os_errors(file.parent, "use a folder on a file system that has locks"):
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(busy, exit_code=1) from error
    try:
        yield
    except BaseException:  # Ctrl-C too: no lock file is left, then it is raised on
        if fresh:
            file.unlink(missing_ok=True)
        raise
    finally:
        lock.release()
