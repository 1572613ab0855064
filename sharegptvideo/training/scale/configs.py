"""The configurations of `accelerate launch` that come with the package."""

from __future__ import annotations

from pathlib import Path

from sharegptvideo._shipped import shipped
from sharegptvideo.errors import unknown_name

__all__ = ["config_about", "config_names", "config_path"]

_FOLDER = "training/accelerate"


def config_names() -> list[str]:
    """Names that `train config` takes."""
    return sorted(file.stem for file in shipped(_FOLDER).glob("*.yaml"))


def config_path(name: str) -> Path:
    """The file of a configuration, for `accelerate launch --config_file`.

    Raises:
        UserError: there is none of that name.
    """
    if name not in config_names():
        raise unknown_name("configuration", name, config_names())
    return shipped(_FOLDER) / f"{name}.yaml"


def config_about(name: str) -> str:
    """The first sentence of a configuration's opening comment."""
    opening = config_path(name).read_text(encoding="utf-8").partition("\n#\n")[0]
    words = " ".join(line.removeprefix("#").strip() for line in opening.splitlines())
    return words.partition(". ")[0].rstrip(".")
