"""Rows from the release on the Hugging Face Hub: only the files that a config needs."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sharegptvideo._network import check_hub_variables
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Part
from sharegptvideo.data.sources.release import FOLDER, ReleaseSource
from sharegptvideo.data.sources.report import OnError, ReadReport
from sharegptvideo.data.sources.splits import SplitRule
from sharegptvideo.data.sources.tables import LineFile, read_tables
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from huggingface_hub import ResolvedRevision

__all__ = ["TEST_REPO", "TRAIN_REPO", "HubSource", "hub_errors", "repo_of"]

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
    _resolved: dict[str, ResolvedRevision] = field(default_factory=dict)

    def splits(self, config: Config) -> tuple[str, ...]:
        """Return the splits of the release."""
        return config.released

    def fingerprint(self, config: Config) -> list[str]:
        """Repository and commit."""
        return [repo_of(config), self._commit(config).resolved]

    def parts(self, config: Config, split: str) -> list[Part] | None:
        """None where files are streamed, since each reader would fetch them whole."""
        if self.streaming:
            return None
        return self._local(config).parts(config, split)

    def tables(
        self,
        config: Config,
        splits: Collection[str],
        on_error: OnError,
        report: ReadReport,
        parts: Collection[Part] | None = None,
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows in order of file name and line.

        Raises:
            UserError: the Hub cannot be reached and nothing is cached; no such repository,
                revision or file.
        """
        if not self.streaming:
            yield from self._local(config).tables(config, splits, on_error, report, parts)
            return
        with hub_errors(repo_of(config), self.revision):
            read = read_tables(config, self._remote(config), SplitRule(), None, on_error, report)
            for split, table in read:
                if split in splits:
                    yield split, table

    def _local(self, config: Config) -> ReleaseSource:
        return ReleaseSource(_snapshot(config, self._commit(config)))

    def _remote(self, config: Config) -> list[LineFile]:
        from huggingface_hub import HfFileSystem

        repo = repo_of(config)
        pattern = f"datasets/{repo}@{self._commit(config).resolved}/{FOLDER}/{config.file}"
        system = HfFileSystem()
        names = sorted(system.glob(pattern))
        if not names:
            raise _no_file(config)
        return [
            LineFile(f"hf://{name}", _Opener(system, name, repo, self.revision), remote=True)
            for name in names
        ]

    def _commit(self, config: Config) -> ResolvedRevision:
        """Return the commit that the revision means; without a network, what it meant last time."""
        from huggingface_hub import HfApi

        repo = repo_of(config)
        if repo not in self._resolved:
            with hub_errors(repo_of(config), self.revision):
                self._resolved[repo] = HfApi().resolve_revision(
                    repo, repo_type="dataset", revision=self.revision
                )
        return self._resolved[repo]


def _snapshot(config: Config, revision: ResolvedRevision) -> Path:
    from huggingface_hub import snapshot_download

    pattern = f"{FOLDER}/{config.file}"
    with hub_errors(repo_of(config), revision):
        folder = snapshot_download(
            repo_of(config), repo_type="dataset", revision=revision, allow_patterns=[pattern]
        )
    if not any(Path(folder).glob(pattern)):
        raise _no_file(config)
    return Path(folder)


def _no_file(config: Config) -> UserError:
    return UserError(f"{repo_of(config)}: no {FOLDER}/{config.file} on the Hub", exit_code=1)


@dataclass(frozen=True, slots=True)
class _Opener:
    system: Any
    name: str
    repo: str
    revision: str | None

    def __call__(self) -> IO[bytes]:
        with hub_errors(self.repo, self.revision):
            file = self.system.open(self.name, "rb", block_size=0)
            size: int = self.system.info(self.name)["size"]
        errors = functools.partial(hub_errors, self.repo, self.revision)
        stream = _Stream(file, self.name, size, errors)
        return io.BufferedReader(stream, _BLOCK)


class _Stream(io.RawIOBase):
    """Bytes as they come from the Hub, whose errors would otherwise pass for a disk's.

    They have to be as many as the Hub says, else rows are missing at the end.
    """

    def __init__(
        self,
        file: Any,
        name: str,
        size: int,
        errors: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._file = file
        self._name = name
        self._size = size
        self._got = 0
        self._errors = errors

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            content: bytes = self._file.read(len(buffer))
        if not content and self._got != self._size:
            raise UserError(
                f"hf://{self._name}: ended after {self._got:,} of {self._size:,} bytes; try again, "
                "or without streaming",
                exit_code=1,
            )
        self._got += len(content)
        if self._got > self._size:
            raise UserError(
                f"hf://{self._name}: more than the {self._size:,} bytes that the Hub says; try "
                "again, or without streaming",
                exit_code=1,
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def repo_of(config: Config) -> str:
    """Return the repository of the release that holds a config."""
    return TEST_REPO if config.is_task else TRAIN_REPO


_FIX = 'pass data_dir=PATH of a local copy of the release, or data_dir="synthetic"'


@contextlib.contextmanager
def hub_errors(repo: str, revision: str | None, fix: str = _FIX) -> Iterator[None]:
    """Turn the Hub's errors into one line that ends with `fix`.

    Raises:
        UserError: no such repository or revision, none for this token, no network, a server
            that does not answer or answers with an error; says which. A variable of the environment
            that no client can be opened with; before the block is run.
    """
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        RevisionResolutionError,
    )

    check_hub_variables()
    try:
        yield
    except RevisionNotFoundError as error:
        raise UserError(f"{repo}: no revision {revision!r} on the Hub", exit_code=1) from error
    except GatedRepoError as error:
        raise UserError(
            f"{repo}: ask for access on its page on the Hub, then set HF_TOKEN", exit_code=1
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{repo}: not on the Hub, or not for you (HF_TOKEN opens private ones); {fix}",
            exit_code=1,
        ) from error
    except (
        RevisionResolutionError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        httpx2.HTTPError,
        FileNotFoundError,
        EOFError,
    ) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403}:
            fix = "set another HF_TOKEN: it is wrong, has expired, or gives no right to this"
        raise UserError(f"{repo}: {_trouble(error)}; {fix}", exit_code=1) from error


def _trouble(error: BaseException) -> str:
    """Return what went wrong between here and the Hub, from the error or from what caused it."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, HfHubHTTPError):
            return f"the Hub answered {link.response.status_code} {link.response.reason_phrase}"
        if isinstance(link, OfflineModeIsEnabled):
            return "the Hub is switched off by HF_HUB_OFFLINE, and this is not in its cache"
    network = [link for link in chain if isinstance(link, httpx2.HTTPError)]
    return f"the Hub cannot be reached ({type([*network, error][0]).__name__})"
