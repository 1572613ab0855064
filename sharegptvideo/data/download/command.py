"""`download`: plan, ask, carry out; one process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sharegptvideo._concurrency import Progress, available_cores
from sharegptvideo._io import KeyedLog
from sharegptvideo._runs import folder_lock
from sharegptvideo._text import byte_size
from sharegptvideo.data.download.disk import disk_errors
from sharegptvideo.data.download.execute import Outcome, run_plan
from sharegptvideo.data.download.plan import Plan, make_plan, work_folder
from sharegptvideo.data.download.unpack import Limits
from sharegptvideo.errors import UserError

__all__ = ["download"]

_JOURNAL = "download.jsonl"


def download(
    name: str,
    to: str | os.PathLike[str],
    *,
    media: bool = False,
    only: str | None = None,
    revision: str | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    confirm: Callable[[Plan], bool] | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, Outcome | None]:
    """Bring a dataset of the release into a folder, with its clips if `media` is set.

    Safe to stop at any moment, kill -9 included; the same call goes on. What is there and
    right is not fetched again, so a second call does nothing.

    Args:
        name: a config ("qa", "msvd_qa"), or "all".
        to: the folder; made if need be. A local copy of the release is taken over.
        media: the clips too: `train_300k` for the training sets, `train_600k` as well for
            "captions", and of a test set its own archive. Archives are removed once unpacked,
            but never those that were there before.
        only: take just what belongs to a source, one of `SOURCES`; the training files mix
            theirs and are left out.
        revision: branch, tag or commit on the Hub.
        limits: where unpacking an archive stops.
        workers: archives unpacked at a time, each in a process; by default one per core,
            eight at most.
        confirm: shown the plan where something is to be done; False ends there.
        progress: called as `progress(done, total, what)`.

    Returns:
        The plan, as it was before; and what was done, None where `confirm` said no.

    Raises:
        UserError: unknown name or source; the Hub says no or cannot be reached; wrong bytes;
            an archive that is damaged, refused or over the limits; something of the user's in
            the way; a full disk or a folder without rights; another download at work there.
    """
    root = Path(to).expanduser().absolute()
    with disk_errors(root):
        work_folder(root).mkdir(parents=True, exist_ok=True)
    with _only_us(root), _journal(root) as journal:
        with disk_errors(root):
            plan = make_plan(name, root, journal, media=media, only=only, revision=revision)
        if plan.open:
            _check_space(plan)
            if confirm is not None and not confirm(plan):
                return plan, None
        done = run_plan(
            plan,
            journal,
            limits=limits or Limits(),
            workers=workers or min(available_cores(), 8),
            progress=progress,
        )
    return plan, done


@contextlib.contextmanager
def _journal(root: Path) -> Iterator[KeyedLog]:
    with disk_errors(root):
        journal = KeyedLog(work_folder(root) / _JOURNAL, key="path")
    with journal:
        yield journal


@contextlib.contextmanager
def _only_us(root: Path) -> Iterator[None]:
    """Hold the folder's lock."""
    busy = f"{root}: another download is at work there; wait for it"
    with contextlib.ExitStack() as held:
        with disk_errors(root):
            held.enter_context(folder_lock(work_folder(root) / "lock", busy))
        yield


def _check_space(plan: Plan) -> None:
    """Frames are JPEG files, so an archive unpacks to no less than its size."""
    free = shutil.disk_usage(plan.to).free
    archives = sum(item.remote.size for item in plan.open if item.is_archive)
    rows = sum(item.to_fetch for item in plan.open if not item.is_archive)
    needed = rows + archives
    if needed > free:
        raise UserError(
            f"{plan.to}: {byte_size(needed)} are needed and {byte_size(free)} free; "
            "make room, choose another folder with --to, or leave out --media",
            exit_code=1,
        )
