"""The configurations of `accelerate launch` that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sharegptvideo.errors import UserError, unknown_name

__all__ = ["config_about", "config_names", "config_path"]

_SUFFIX = ".yaml"


def config_names() -> list[str]:
    """Names that `train config` takes."""
    folder = resources.files("sharegptvideo.training.scale")
    return sorted(
        file.name.removesuffix(_SUFFIX) for file in folder.iterdir() if file.name.endswith(_SUFFIX)
    )


def config_path(name: str) -> Path:
    """The file of a configuration, for `accelerate launch --config_file`.

    Raises:
        UserError: there is none of that name, or the package lies in an archive.
    """
    if name not in config_names():
        raise unknown_name("configuration", name, config_names())
    file = resources.files("sharegptvideo.training.scale").joinpath(f"{name}{_SUFFIX}")
    if not isinstance(file, Path):
        raise UserError("the package lies in an archive; install it as files")
    return file


def config_about(name: str) -> str:
    """The first sentence of a configuration's opening comment."""
    opening = config_path(name).read_text(encoding="utf-8").partition("\n#\n")[0]
    words = " ".join(line.removeprefix("#").strip() for line in opening.splitlines())
    return words.partition(". ")[0].rstrip(".")
