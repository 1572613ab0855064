"""Selection of the release's files by a name: rows and media of a config, a test set, or all."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from sharegptvideo.data.schema import CONFIGS, Config
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO, repo_of
from sharegptvideo.data.sources.release import FOLDER
from sharegptvideo.errors import UserError, unknown_name

__all__ = ["ALL", "ARCHIVES", "SOURCES", "Choice", "archive_name", "select", "top_names"]

ALL = "all"
"""The name that stands for every config of the release."""

SOURCES = ("webvid", "vidal", "activitynet", "msrvtt", "msvd", "tgif", "ssv2")
"""Where the release's videos come from, as `--only` takes them."""

# The release's own short name, beside ours.
_ALIASES = {"actnet": "activitynet"}
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
"""The endings of archives that can be unpacked."""
# Where the images of `image_captions` and of sft's image rows come from: repository, archives.
_IMAGES = (
    ("ALLaVA", "FreedomIntelligence/ALLaVA-4V", "allava_laion/image_chunks/images_*.zip"),
    ("Vision-Flan", "Vision-Flan/vision-flan_191-task_1k", "image_191-task_1k.zip"),
)
# Captions were written for all 900k videos; questions, conversations and pairs for these 300k.
_CHUNKS = "train_300k"
_MORE_CHUNKS = "train_600k"
# The videos that the frames were taken from: ActivityNet's of the training sets, all test sets'.
_RAW_TRAIN_REPO = "ShareGPTVideo/train_raw_video"
_RAW_TEST_REPO = "ShareGPTVideo/test_raw_video_data"
_RAW_CHUNKS = "activitynet"
_RAW_FOLDER = "raw"


@dataclass(frozen=True, slots=True)
class Choice:
    """One part of what a name stands for: the files of a repository that `takes` accepts.

    They go to `folder` below that of the download, so that names of two repositories never meet.
    """

    what: str
    repo: str
    pattern: str
    takes: Callable[[str], bool]
    is_media: bool
    folder: str = ""


def select(
    name: str, *, media: bool, only: str | None, raw: bool = False
) -> tuple[list[Choice], list[str]]:
    """Return the parts that `name` stands for, and remarks for the user.

    With `raw`, the clips are the videos themselves, not their frames.

    Test sets come one by one, so `only` chooses among them. The training files and chunks mix
    WebVid, VIDAL and ActivityNet: with `only`, "all" leaves them out, and asked for by name
    they are an error.

    Raises:
        UserError: unknown name or source; nothing of that source belongs to the name.
    """
    configs = _configs(name)
    notes: list[str] = []
    if only is not None:
        source = _source(only)
        mixed = [config.name for config in configs if not config.is_task]
        configs = [config for config in configs if config.is_task and _set_of(config) == source]
        if not configs:
            raise _nothing(name, source, bool(mixed))
        if mixed:
            notes.append(
                f"{', '.join(mixed)}: left out, since the training files and chunks mix their "
                "sources; leave out --only to have them"
            )
    choices = [_rows(config) for config in configs]
    if media or raw:
        clips = [choice for config in configs for choice in _media(config, raw)]
        if raw and any(choice.repo == _RAW_TRAIN_REPO for choice in clips):
            notes.append(
                "of the training clips, videos are published for the 50k of ActivityNet alone; "
                "the others come as frames, with --media"
            )
        choices += {choice.what: choice for choice in clips}.values()
        if any("image" in config.paths for config in configs):
            notes.append("the images come from repositories of others, as they are there now")
    return choices, notes


def archive_name(path: str) -> str | None:
    """Return the path of an archive without its ending, where its content belongs, or None."""
    for ending in ARCHIVES:
        if path.endswith(ending) and not path.endswith(f"/{ending}"):
            return path[: -len(ending)]
    return None


def top_names(path: str) -> frozenset[str]:
    """Return names of a single top folder in an archive that mean the archive itself.

    `msvd.tar.gz` holds `msvd/...`, and its clips belong right below `msvd`.
    """
    name = (archive_name(path) or path).rpartition("/")[2]
    source = _ALIASES.get(name.lower(), name.lower())
    return frozenset({name, source, *(short for short, long in _ALIASES.items() if long == source)})


def _configs(name: str) -> list[Config]:
    here = ("synthetic_qa", "synthetic_ood_qa")
    released = {
        key: config for key, config in CONFIGS.items() if config.released and key not in here
    }
    if name == ALL:
        return list(released.values())
    if name in CONFIGS and not CONFIGS[name].released:
        raise UserError(
            f"{name} is not in the release; make it of the original files with "
            "`sharegptvideo data convert`"
        )
    if name in here:
        raise UserError(
            f"{name} is made on this machine and not downloaded; "
            f'use load_dataset("{name}"), or `sharegptvideo demo`'
        )
    if name not in released:
        raise unknown_name("dataset", name, [*released, ALL])
    return [released[name]]


def _source(only: str) -> str:
    source = _ALIASES.get(only.lower(), only.lower())
    if source not in SOURCES:
        raise unknown_name("source", only, SOURCES)
    return source


def _nothing(name: str, source: str, mixed: bool) -> UserError:
    if mixed:
        return UserError(
            f"{name}: its files and chunks mix their sources, so --only {source} cannot choose "
            "among them; leave out --only"
        )
    return UserError(f"{name}: has nothing of {source}; leave out --only, or name its own source")


def _set_of(config: Config) -> str:
    """Return the source of a test set, from the name of its file: `test/actnet.qa.jsonl`."""
    short = config.file.rpartition("/")[2].partition(".")[0]
    return _ALIASES.get(short, short)


def _rows(config: Config) -> Choice:
    pattern = f"{FOLDER}/{config.file}"
    endings = ("", ".gz")

    def takes(path: str) -> bool:
        return any(_matches(path, pattern + ending) for ending in endings)

    return Choice(f"rows of {config.name}", repo_of(config), pattern, takes, is_media=False)


def _media(config: Config, raw: bool) -> list[Choice]:
    if config.is_task:
        return [_raw_set(_set_of(config)) if raw else _set_media(_set_of(config))]
    choices = []
    if "video" in config.paths:
        folders = [_CHUNKS, _MORE_CHUNKS] if config.name == "captions" else [_CHUNKS]
        choices = [_chunks(folder) for folder in folders]
        if raw:
            choices = [_chunks(_RAW_CHUNKS, _RAW_TRAIN_REPO, "training videos", _RAW_FOLDER)]
    if "image" in config.paths:
        choices += [_images(*images) for images in _IMAGES]
    return choices


def _chunks(folder: str, repo: str = TRAIN_REPO, what: str = "clips", to: str = "") -> Choice:
    def takes(path: str) -> bool:
        return archive_name(path) is not None and path.startswith(f"{folder}/")

    return Choice(
        f"{what} of {folder}", repo, f"{folder}/*.tar.gz", takes, is_media=True, folder=to
    )


def _raw_set(source: str) -> Choice:
    """Choose the archives of a test set's videos: by their own names, or by a folder's."""

    def takes(path: str) -> bool:
        parts = [*path.split("/")[:-1], path] if archive_name(path) is not None else []
        return any(source in top_names(part) for part in parts)

    pattern = f"{source}.tar.gz"
    return Choice(f"videos of {source}", _RAW_TEST_REPO, pattern, takes, True, _RAW_FOLDER)


def _images(name: str, repo: str, pattern: str) -> Choice:
    def takes(path: str) -> bool:
        return _matches(path, pattern)

    return Choice(f"images of {name}", repo, pattern, takes, is_media=True)


def _set_media(source: str) -> Choice:
    """Choose a test set's archive by its name, whichever folder it lies in."""

    def takes(path: str) -> bool:
        return archive_name(path) is not None and source in top_names(path)

    return Choice(f"clips of {source}", TEST_REPO, f"{source}.tar.gz", takes, is_media=True)


def _matches(path: str, pattern: str) -> bool:
    """Match as a shell does: a star never crosses a folder."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
