"""Decoded clips and images, kept between epochs and read in place of files: `data.keep_clips`.

What is kept is what a reader decodes to, before normalisation, so batches are the same to the bit.

    FOLDER/KEY/ab/abcd….clip    one clip or image each, whole or absent: safetensors with a checksum

KEY stands for how clips are decoded; a file's name for the path, sizes and times of a clip's
files. All processes of a machine and their loader workers share the folder: `disk` is one in the
package's cache that stays, `memory` one in shared memory that goes with the last training in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo._text import byte_size, percent
from sharegptvideo.errors import UserError
from sharegptvideo.models.memory import free_bytes
from sharegptvideo.training.checks import nearest_folder
from sharegptvideo.training.families.base import Clip, ClipReader, VisualKind, a_sample
from sharegptvideo.training.launch import processes
from sharegptvideo.training.mix import Visual, visual_of, visuals_of
from sharegptvideo.training.precompute.fingerprints import clip_fingerprint, digest
from sharegptvideo.training.streaming import StreamedRows

if TYPE_CHECKING:
    from datasets import Dataset

    from sharegptvideo.training.recipes import DataSource

__all__ = [
    "KEPT_CLIPS_VERSION",
    "ClipKeeper",
    "ClipStore",
    "KeptReader",
    "kept_problem",
    "kept_size",
]

KEPT_CLIPS_VERSION = 1
"""Raised when a clip is decoded to other bytes than before: what was kept is then not used."""

_SHARED_MEMORY = Path("/dev/shm")
_FEW = 200  # streamed rows whose clips are looked at
_HOUR = 3600.0  # a file takes milliseconds to write


class ClipStore:
    """Clips by key in a folder, mapped into memory where they are read. It may be pickled."""

    def __init__(self, folder: Path, fix: str = "") -> None:
        """Take a folder, which is made with the first clip.

        Args:
            fix: what a user can do where nothing can be written.
        """
        self.folder = folder
        self._fix = fix

    def read(self, key: str) -> Clip | None:
        """Return a clip as it was added; None where it is not there, or not as it was."""
        try:
            with safe_open(self._file(key), framework="pt") as file:
                clip = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                checksum = (file.metadata() or {}).get("checksum")
        except (OSError, SafetensorError):
            return None
        return clip if checksum == _checksum(clip) else None

    def add(self, key: str, clip: Clip) -> None:
        """Write a clip, whole or not at all. Two processes may add the same one.

        Nothing is synced: after a crash of the machine the checksum shows it.

        Raises:
            UserError: no room, or the folder may not be written.
        """
        path = self._file(key)
        content = save(
            {name: tensor.contiguous() for name, tensor in clip.items()},
            metadata={"checksum": _checksum(clip)},
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with os_errors(self.folder, self._fix):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                temporary.replace(path)
            except BaseException:  # Ctrl-C too: no part of a file is left, then it is raised on
                temporary.unlink(missing_ok=True)
                raise

    def __contains__(self, key: str) -> bool:
        return self._file(key).is_file()

    def sweep(self) -> None:
        """Remove what killed processes left an hour ago and more."""
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder, name) for name in names if name.endswith(".tmp")):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _HOUR:
                        path.unlink()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.clip"


def _checksum(clip: Clip) -> str:
    value = 0
    for _, tensor in sorted(clip.items()):
        flat = tensor.contiguous().reshape(-1).view(torch.uint8)
        value = zlib.crc32(flat.numpy().data, value)
    return f"{value:08x}"


class KeptReader(ClipReader):
    """Gives what is kept of clips and images; what is not, `reader` decodes once."""

    def __init__(self, reader: ClipReader, store: ClipStore) -> None:
        self.reader = reader
        self.store = store
        self.pad_id = reader.pad_id
        self.video_tokens = reader.video_tokens
        self.image_tokens = reader.image_tokens

    def read(self, path: str) -> Clip:
        """As the reader of clips does."""
        return self._kept(Visual("video", path))

    def read_image(self, path: str) -> Clip:
        """As the reader of images does."""
        return self._kept(Visual("image", path))

    def _kept(self, visual: Visual) -> Clip:
        key = _key(visual)
        decoded = self.store.read(key)
        if decoded is None:
            decoded = self.reader.decode(visual)
            self.store.add(key, decoded)
        return self.reader.finish(visual.kind, decoded)

    def count(self, path: str) -> int:
        """As the reader of clips does."""
        return self.reader.count(path)

    def expand(
        self, ids: list[int], assistant_mask: list[bool], clip: Clip
    ) -> tuple[list[int], list[bool]]:
        """As the reader of clips does."""
        return self.reader.expand(ids, assistant_mask, clip)

    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """As the reader of clips does."""
        return self.reader.batch(clips)

    def batch_images(self, images: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """As the reader of images does."""
        return self.reader.batch_images(images)

    def blank(self, kind: VisualKind) -> Clip:
        """As the reader does."""
        return self.reader.blank(kind)


def _key(visual: Visual) -> str:
    path = os.path.abspath(visual.path)  # noqa: PTH100 - links stay what they are
    return digest(visual.kind, path, clip_fingerprint(visual.path))


def kept_size(counts: dict[VisualKind, tuple[int, float]]) -> str:
    """Return "240 clips × 1.2 MB = 289 MB", of counts and mean bytes."""
    words = {"video": "clips", "image": "images"}
    each = " + ".join(
        f"{count:,} {words[kind]} × {byte_size(size)}"
        for kind, (count, size) in counts.items()
        if count
    )
    return f"{each} = {byte_size(sum(count * size for count, size in counts.values()))}"


def kept_problem(
    data: DataSource, counts: dict[VisualKind, tuple[int, float]], there: float = 0.0
) -> str | None:
    """Return a line where clips do not fit, or cannot be kept on this machine.

    Args:
        counts: clips and images, and mean bytes of one.
        there: share of them that is kept already.
    """
    need = (1 - there) * sum(count * size for count, size in counts.values())
    if data.keep_clips == "memory":
        if not _SHARED_MEMORY.is_dir():
            return (
                f"data.keep_clips=memory: this machine has no {_SHARED_MEMORY}; set it to disk "
                "or none"
            )
        free, where = shutil.disk_usage(_SHARED_MEMORY).free, f"free in {_SHARED_MEMORY}"
        left = free_bytes(torch.device("cpu"))
        if left is not None and left < free:
            free, where = left, "of memory free"
        fix = "set it to disk or none, or give a container more (--shm-size)"
    else:
        folder = _disk_folder()
        free = shutil.disk_usage(nearest_folder(folder)).free
        where = f"free for {folder}"
        fix = "free some space, move the cache (SHAREGPTVIDEO_CACHE) or set it to none"
    if need <= free:
        return None
    more = " more" if there else ""
    return (
        f"data.keep_clips={data.keep_clips}: {kept_size(counts)} take {byte_size(need)}{more}, "
        f"{byte_size(free)} {where}; {fix}"
    )


def _disk_folder() -> Path:
    return cache_folder() / "clips"


class ClipKeeper(contextlib.ExitStack):
    """What a training keeps of clips, as `data.keep_clips` says, while its block lasts.

    Enter it before the block that ends loader workers: they may be writing until then.
    """

    def __init__(self, data: DataSource, note: Callable[[str], None]) -> None:
        """Take the rows' source; `note` gets a line on what is kept."""
        super().__init__()
        self._data = data
        self._note = note

    def reader(self, reader: ClipReader, rows: Dataset | StreamedRows) -> ClipReader:
        """Return a reader that keeps what it decodes, or the same one where nothing is to be kept.

        Args:
            rows: of the training, each with the path of its clip or image.

        Raises:
            UserError: no room for what is to be kept.
        """
        how = self._data.keep_clips
        if how == "none":
            return reader
        versions = (KEPT_CLIPS_VERSION, av.__version__, torch.__version__, transformers.__version__)
        key = digest(*versions, reader.decoding())
        if how == "memory" and _SHARED_MEMORY.is_dir():
            folder = self.enter_context(_in_memory(key))
        else:
            folder = _disk_folder() / key
        store = ClipStore(folder, f"free some space or set data.keep_clips=none (it is {how})")
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:  # one process of each machine
            store.sweep()
            counts, sample = _counts(reader, rows)
            there = sum(_key(one) in store for one in sample) / max(len(sample), 1)
            problem = kept_problem(self._data, counts, there)
            if problem:
                raise UserError(problem, exit_code=1)
            if processes().is_first:
                about = "" if len(sample) == sum(n for n, _ in counts.values()) else "about "
                already = f"; {about}{percent(there, 0)} of them are there already" if there else ""
                self._note(f"decoded clips are kept in {folder}: {kept_size(counts)}{already}")
        return KeptReader(reader, store)


def _counts(
    reader: ClipReader, rows: Dataset | StreamedRows
) -> tuple[dict[VisualKind, tuple[int, float]], list[Visual]]:
    """Clips and images of rows, and the mean bytes of one; and a sample of them."""
    if isinstance(rows, StreamedRows):
        few = {visual_of(rows[number]) for number in range(min(len(rows), _FEW))}
        sample = sorted(one for one in few if one)
        return {"video": (len(np.unique(rows.plan.clips)), reader.mean_kept(sample))}, sample
    clips = sorted({one for one in visuals_of(rows) if one})
    kinds: tuple[VisualKind, ...] = ("video", "image")
    own = {kind: [one for one in clips if one.kind == kind] for kind in kinds}
    counts = {kind: (len(some), reader.mean_kept(some)) for kind, some in own.items()}
    return counts, a_sample(clips)


@contextlib.contextmanager
def _in_memory(key: str) -> Iterator[Path]:
    """Give a folder in shared memory to all trainings of this user that decode alike.

    The last one removes it. What killed ones left is taken over, or removed where clips are
    decoded otherwise: no process has its lock any more.
    """
    import fcntl

    home = _SHARED_MEMORY / f"sharegptvideo-{os.getuid()}"
    with os_errors(home, "set data.keep_clips=disk or none"):
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid != os.getuid():
            raise UserError(f"{home}: belongs to another user; set data.keep_clips=disk or none")
        for lock in home.glob("*.lock"):
            if lock.stem != key:
                _remove_unused(lock)
        with (home / f"{key}.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            try:
                yield home / key
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)
                _remove_unused(home / f"{key}.lock")


def _remove_unused(lock: Path) -> None:
    """Remove what a lock's folder holds, unless a training uses it."""
    import fcntl

    with contextlib.suppress(OSError), lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
