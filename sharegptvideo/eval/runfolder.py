"""A run's folder: what it is a run of, its answers and verdicts so far, and one writer at a time.

run.json           what was run; a folder holds answers of one model and one judge
predictions.jsonl  one line an answer; a retried question has several, the last one counts
judgements.jsonl   one line a verdict; likewise
results.json       the figures, written when all is judged
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from sharegptvideo._io import KeyedLog, dumps, os_errors, read_json, write_json
from sharegptvideo.errors import UserError

__all__ = ["RunFolder", "package_versions", "read_run"]

_PACKAGES = (
    "sharegptvideo",
    "av",
    "datasets",
    "numpy",
    "openai",
    "pillow",
    "tokenizers",
    "torch",
    "transformers",
)


def package_versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def read_run(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of a finished run's run.json and results.json.

    Raises:
        UserError: `path` is no run folder, or its run has not ended.
    """
    if not (path / "run.json").is_file():
        raise UserError(f"{path}: no run folder (run.json is not in it)")
    if not (path / "results.json").is_file():
        raise UserError(f"{path}: has no results.json yet; run its command again to finish it")
    return read_json(path / "run.json"), read_json(path / "results.json")


class RunFolder:
    """An open run folder; a context manager that lets no second process write into it."""

    predictions: KeyedLog
    judgements: KeyedLog

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Open `path` for the run that `run` describes, or go on with it.

        Raises:
            UserError: the folder holds another run (says what differs), or something else, or
                another process is writing to it.
        """
        self.path = path
        now: dict[str, Any] = json.loads(dumps(run))  # as it will be read back
        earlier = self._earlier()
        if earlier is not None:
            changes = _changes(earlier, now)
            if changes:
                raise UserError(
                    f"{path} holds another run: {'; '.join(changes)}. Take another --out"
                    " (to judge its answers anew: eval judge --predictions"
                    f" {path / 'predictions.jsonl'})"
                )
            now["tasks"] = earlier["tasks"] | now["tasks"]
        _make(path)
        self._lock = _lock(path)
        self.run = now
        write_json(path / "run.json", now)
        self.predictions = KeyedLog(path / "predictions.jsonl", key=("task", "id"))
        self.judgements = KeyedLog(path / "judgements.jsonl", key=("task", "id"))

    def _earlier(self) -> dict[str, Any] | None:
        if (self.path / "run.json").is_file():
            earlier = read_json(self.path / "run.json")
            if not isinstance(earlier, dict) or not {"model", "tasks"} <= earlier.keys():
                raise UserError(
                    f"{self.path}: its run.json is not of an evaluation; take another --out"
                )
            return earlier
        if self.path.exists() and (not self.path.is_dir() or any(self.path.glob("*.jsonl"))):
            raise UserError(
                f"{self.path}: is there already and is no run folder; take another --out"
            )
        return None

    def write_results(self, tasks: Mapping[str, Any]) -> dict[str, Any]:
        """Write results.json, keeping the tasks of earlier commands, and return its contents."""
        file = self.path / "results.json"
        earlier = read_json(file)["tasks"] if file.is_file() else {}
        results = {
            "model": self.run["model"]["spec"],
            "judge": self.run["judge"],
            "tasks": {**earlier, **tasks},
        }
        write_json(file, results)
        return results

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.predictions.close()
        self.judgements.close()
        self._lock.close()


def _make(path: Path) -> None:
    with os_errors(path, "free some space or give another --out", action="made"):
        path.mkdir(parents=True, exist_ok=True)


def _lock(path: Path) -> Any:
    """Hold `RUN/.lock` while the run lasts; the system lets go of it when a process dies."""
    import fcntl

    with os_errors(path, "give another --out"), contextlib.ExitStack() as closed:
        file = closed.enter_context((path / ".lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{path}: another process is writing to this run; wait for it", exit_code=1
            ) from error
        closed.pop_all()
    return file


# Recorded, but free to change between two sittings of one run.
_FREE = frozenset({"base_url", "endpoint", "file_hash", "spec"})
# Not recorded by earlier versions, whose runs may be gone on with.
_ADDED = frozenset({"task_hash"})


def _changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changes = list(_differences(earlier["model"], now["model"], "model"))
    for name in sorted(earlier["tasks"].keys() & now["tasks"].keys()):
        changes += _differences(earlier["tasks"][name], now["tasks"][name], name)
    if not changes and earlier["judge"] != now["judge"]:
        changes.append(f"judge {earlier['judge']} there, {now['judge']} here")
    return changes


def _differences(there: Any, here: Any, where: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            if name not in _FREE and (name in there or name not in _ADDED):
                yield from _differences(there.get(name), here.get(name), f"{where}.{name}")
    elif there != here:
        yield f"{where} {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}..."
