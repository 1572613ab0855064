"""Features of clips on disk, mapped into memory, and the reader that takes them from there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sharegptvideo._io import follow_umask, os_errors
from sharegptvideo.training.families.base import FEATURES, Clip, ClipReader

__all__ = ["FeatureReader", "FeatureStore"]

_FIX = (
    "free some space there, name another folder as features.folder, or set features.enabled=false"
)


class FeatureStore:
    """Features of clips by key, in files that are mapped into memory where they are read.

    It may be pickled: loader workers open the files for themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of: dict[str, str] = {}
        self._open: dict[str, Any] = {}
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def refresh(self) -> None:
        """Look again which clips are there; a damaged file has none."""
        self._file_of = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    self._file_of.update(dict.fromkeys(file.keys(), path.name))
            except (OSError, SafetensorError):
                continue

    def __contains__(self, key: object) -> bool:
        return key in self._file_of

    def __len__(self) -> int:
        return len(self._file_of)

    def features(self, key: str) -> torch.Tensor:
        """frames×positions×size, mapped from the file.

        Raises:
            KeyError: not there.
        """
        name = self._file_of[key]
        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, framework="pt")
        found: torch.Tensor = self._open[name].get_tensor(key)
        return found

    def add(self, features: dict[str, torch.Tensor]) -> None:
        """Write some clips' features as one file, whole or not at all.

        Raises:
            UserError: the disk is full, or the folder may not be written.
        """
        name = f"{uuid.uuid4().hex}.safetensors"
        with os_errors(self.folder, _FIX):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{name}.tmp"
            try:
                save_file(features, temporary)
                follow_umask([temporary])
                temporary.replace(self.folder / name)
            finally:
                temporary.unlink(missing_ok=True)
        self._file_of.update(dict.fromkeys(features, name))


class FeatureReader(ClipReader):
    """Gives a clip's features where `reader` would decode it.

    Args:
        reader: of the clips themselves; it still lays out the tokens.
        keys: the clips' keys by path.
    """

    def __init__(self, reader: ClipReader, store: FeatureStore, keys: dict[str, str]) -> None:
        self.reader = reader
        self.store = store
        self.keys = keys
        self.pad_id = reader.pad_id
        self.video_tokens = reader.video_tokens

    def read(self, path: str) -> Clip:
        """`features`, frames×positions×size."""
        return {FEATURES: self.store.features(self.keys[path])}

    def expand(
        self, ids: list[int], spoken: list[bool], clip: Clip
    ) -> tuple[list[int], list[bool]]:
        """As the reader of clips does."""
        return self.reader.expand(ids, spoken, clip)

    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """`features`, clips×frames×positions×size."""
        return {FEATURES: torch.stack([clip[FEATURES] for clip in clips])}
