"""Where rows come from: the release on disk or on the Hub, Parquet, the synthetic world.

`open_source` finds out which; what it gives back reads rows and says what a cache key needs.

| `data_dir` | rows come from |
| --- | --- |
| None | the Hub (`synthetic_qa` and `synthetic_ood_qa`: the synthetic world) |
| "synthetic" | a tiny synthetic world, built once in the cache folder |
| a folder with `<config>/<split>-*.parquet` | Parquet made by this package |
| any other folder | the release layout, `video_instruction/...`; worlds of `build_world` too |
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo.data.schema import CONFIGS, Config
from sharegptvideo.data.sources.base import Row, Source
from sharegptvideo.data.sources.report import DataWarning, OnError, ReadReport, on_error_of
from sharegptvideo.data.sources.splits import SPLITS_FILE, VALIDATION_SHARE, SplitRule
from sharegptvideo.errors import UserError

__all__ = [
    "SPLITS_FILE",
    "VALIDATION_SHARE",
    "DataWarning",
    "OnError",
    "ReadReport",
    "Row",
    "Source",
    "SplitRule",
    "held_configs",
    "on_error_of",
    "open_source",
    "world_folder",
]

_EMBEDDED = frozenset({"synthetic_qa", "synthetic_ood_qa"})


def open_source(
    config: Config,
    source: str | os.PathLike[str] | None,
    *,
    revision: str | None = None,
    streaming: bool = False,
) -> Source:
    """Return the source that `source` means for a config (see the table above).

    `revision` is a branch, tag or commit on the Hub. `streaming` reads from the Hub without
    downloading; other sources are read line by line in any case.

    Raises:
        UserError: no such folder; `revision` with a source that is not the Hub.
    """
    from sharegptvideo.data.sources.hub import HubSource
    from sharegptvideo.data.sources.parquet import ParquetSource
    from sharegptvideo.data.sources.release import ReleaseSource

    if source is None and config.name in _EMBEDDED:
        source = "synthetic"
    if source is None:
        if not config.released:
            raise UserError(
                f"{config.name} is not in the release; make it from the original files with "
                "`sharegptvideo data convert` and pass that folder as data_dir="
            )
        return HubSource(revision, streaming)
    if revision is not None:
        raise UserError("revision= is for the Hub; leave it out with a folder")
    if source == "synthetic":
        return ReleaseSource(world_folder())
    root = Path(source).expanduser()
    with os_errors(root, action="read"):
        if not root.is_dir():
            raise _no_folder(root, config)
        return ParquetSource(root) if ParquetSource.holds(root, config) else ReleaseSource(root)


def _no_folder(root: Path, config: Config) -> UserError:
    """Return the error for a `data_dir` that is a file, or nothing at all."""
    from sharegptvideo.data.sources.release import nearby_hint

    if root.is_file():
        return UserError(
            f"{root}: a file, not a folder; {nearby_hint(root, [config])}; a file of your own is "
            "made into one with `sharegptvideo data convert plain FILE --config CONFIG`"
        )
    if len(root.parts) == 2 and not root.is_absolute() and not root.parent.exists():
        return UserError(
            f"{root}: no such folder; the release on the Hub is read where data_dir= is left out"
        )
    return UserError(f"{root}: no such folder; data_dir= is a folder, or 'synthetic'")


def world_folder(progress: Callable[[int, int, str], None] | None = None) -> Path:
    """Return the folder of the tiny world with seed 0, built on the first call in half a minute.

    The folder's name carries the version of the world, so a package that makes another one never
    reads these clips.
    """
    from sharegptvideo.synthetic.world import WORLD_VERSION, build_world

    out = cache_folder() / "synthetic" / f"tiny-seed0-v{WORLD_VERSION}"
    build_world(out, seed=0, sizes="tiny", workers=1, progress=progress)
    return out


def held_configs(root: str | os.PathLike[str]) -> list[Config]:
    """Return the configs that a folder has files of, in the order of `CONFIGS`.

    Raises:
        UserError: no such folder, or it holds no config; says what was looked for.
    """
    configs = [config for config in CONFIGS.values() if _holds(config, root)]
    if not configs:
        from sharegptvideo.data.sources.release import nearby_hint

        raise UserError(
            f"{root}: neither video_instruction/ as in the release nor CONFIG/SPLIT-*.parquet; "
            + nearby_hint(Path(root), CONFIGS.values())
        )
    return configs


def _holds(config: Config, root: str | os.PathLike[str]) -> bool:
    source = open_source(config, root)
    try:
        return bool(source.splits(config))
    except UserError:
        return False
