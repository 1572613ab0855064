"""The package's version, and its folders of tasks, prompts, recipes and cards.

They lie at the top of the checkout, beside the package. A wheel carries copies inside the package:
`pyproject.toml` says which folders, under `tool.hatch.build.targets.wheel`.
"""

from __future__ import annotations

from pathlib import Path

from sharegptvideo.errors import UserError

__all__ = ["__version__", "shipped"]

__version__ = "0.1.0"

_PACKAGE = Path(__file__).parent
_COPIES = _PACKAGE / "_shipped_files"


def shipped(folder: str) -> Path:
    """Return where a folder such as `eval/tasks` lies: in the installed package or the checkout.

    Raises:
        UserError: it is in neither.
    """
    path = (_COPIES if _COPIES.is_dir() else _PACKAGE.parent) / folder
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder; install sharegptvideo again, as files and not as an archive"
        )
    return path
