"""Rows from the release on the Hugging Face Hub: only the files that a config needs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sharegptvideo.errors import UserError
from sharegptvideo.schema import Config
from sharegptvideo.sources.base import Row
from sharegptvideo.sources.release import FOLDER, LineFile, ReleaseSource, read_files
from sharegptvideo.sources.report import OnError, ReadReport
from sharegptvideo.sources.splits import SplitRule

__all__ = ["TEST_REPO", "TRAIN_REPO", "HubSource"]

TRAIN_REPO = "ShareGPTVideo/train_video_and_instruction"
TEST_REPO = "ShareGPTVideo/test_video_and_instruction"

_BLOCK = 1 << 20


@dataclass(slots=True)
class HubSource:
    """Files are downloaded once into the Hub's own cache, or streamed and not kept.

    The commit is looked up once for an instance, so that its fingerprint and its rows belong
    together. Without a network, what lies in the Hub's cache is read (not when streaming).
    """

    revision: str | None = None
    streaming: bool = False
    _commits: dict[str, str] = field(default_factory=dict)

    def splits(self, config: Config) -> tuple[str, ...]:
        """The config's own splits."""
        return config.splits

    def fingerprint(self, config: Config) -> list[str]:
        """Repository and commit."""
        return [_repo(config), self._commit(config)]

    def rows(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        """The rows of one split.

        Raises:
            UserError: the Hub cannot be reached and nothing is cached; no such repository,
                revision or file.
        """
        if self.streaming:
            yield from self._stream(config, split, on_error, report)
        else:
            folder = _snapshot(config, self._commit(config))
            yield from ReleaseSource(folder).rows(config, split, on_error, report)

    def _stream(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        from huggingface_hub import HfFileSystem

        pattern = f"datasets/{_repo(config)}@{self._commit(config)}/{FOLDER}/{config.file}"
        with _hub_errors(config, self.revision):
            system = HfFileSystem()
            names = sorted(system.glob(pattern))
            if not names:
                raise UserError(f"{_repo(config)}: no {FOLDER}/{config.file} on the Hub")
            files = [LineFile(f"hf://{name}", _Stream(system, name)) for name in names]
            rule = SplitRule()
            yield from read_files(config, files, split, rule, "release", on_error, report)

    def _commit(self, config: Config) -> str:
        repo = _repo(config)
        if repo not in self._commits:
            self._commits[repo] = _look_up(config, self.revision, streaming=self.streaming)
        return self._commits[repo]


def _look_up(config: Config, revision: str | None, *, streaming: bool) -> str:
    """The commit that `revision` means; without a network the one last downloaded."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with _hub_errors(config, revision):
        try:
            with _hub_errors(config, revision):
                return str(HfApi().dataset_info(_repo(config), revision=revision).sha)
        except UserError:
            if streaming:
                raise
            try:
                folder = snapshot_download(
                    _repo(config),
                    repo_type="dataset",
                    revision=revision,
                    allow_patterns=[f"{FOLDER}/{config.file}"],
                    local_files_only=True,
                )
            except LocalEntryNotFoundError:
                folder = None
            if folder is None:
                raise
            return Path(folder).name


def _snapshot(config: Config, commit: str) -> Path:
    from huggingface_hub import snapshot_download

    with _hub_errors(config, commit):
        folder = snapshot_download(
            _repo(config),
            repo_type="dataset",
            revision=commit,
            allow_patterns=[f"{FOLDER}/{config.file}"],
        )
    return Path(folder)


@dataclass(frozen=True, slots=True)
class _Stream:
    system: Any
    name: str

    def __call__(self) -> IO[bytes]:
        raw = self.system.open(self.name, "rb", block_size=0)
        return io.BufferedReader(raw, _BLOCK)


def _repo(config: Config) -> str:
    return TEST_REPO if config.is_task else TRAIN_REPO


@contextlib.contextmanager
def _hub_errors(config: Config, revision: str | None) -> Iterator[None]:
    """Turns the Hub's errors into one line with the fix."""
    import httpx2
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo = _repo(config)
    fix = 'pass source=PATH to a local copy of the release, or source="synthetic"'
    try:
        yield
    except RevisionNotFoundError as error:
        raise UserError(f"{repo}: no revision {revision!r} on the Hub", exit_code=1) from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{repo}: not on the Hub, or not for you; {fix}", exit_code=1) from error
    except (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        httpx2.HTTPError,
        FileNotFoundError,
    ) as error:
        cause = error.__cause__ or error
        raise UserError(
            f"{repo}: the Hub cannot be reached ({type(cause).__name__}); {fix}", exit_code=1
        ) from error
