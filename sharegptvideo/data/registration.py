"""Makes `datasets.load_dataset("sharegptvideo", ...)` work, without importing `datasets`.

`datasets` looks names up in a table of packaged modules first. If it is imported already, the
name is added at once; if not, a finder waits for `datasets.load` and adds it then. So the
order of the two imports does not matter, and `import sharegptvideo` stays light.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

from sharegptvideo._imports import after_import

__all__ = ["NAME", "TABLES_KEY", "TABLES_VERSION", "register"]

NAME = "sharegptvideo"
TABLES_VERSION = 4
"""Raise it when tests/golden/tables.json changes: tables cached under another are not read."""
TABLES_KEY = f"tables-v{TABLES_VERSION}"
"""The folder of cached tables in the cache of `datasets`, in place of its hash of a script."""

_BUILDER = "sharegptvideo.data.builder"


def register() -> None:
    """Add the name to the table of `datasets` now, or as soon as `datasets` is imported.

    And `ClipFrames` to its kinds of columns, so that tables saved with one can be read again.
    """
    after_import("datasets.load", _add_name)


def _add_name(load: ModuleType) -> None:
    table = getattr(load, "_PACKAGED_DATASETS_MODULES", None)
    factory = getattr(load, "PackagedDatasetModuleFactory", None)
    if table is None or factory is None or NAME in table:
        return
    importlib.import_module("sharegptvideo.data.frames")
    table[NAME] = (_BUILDER, TABLES_KEY)
    list_files = factory.get_module

    @functools.wraps(list_files)
    def get_module(self: Any) -> Any:
        # The factory would list every file below `data_dir`, the current folder if there is
        # none: millions of frames beside the release, and no release at all in most folders.
        # The builder knows the few files it wants, so it gets an empty list.
        if self.name != NAME:
            return list_files(self)
        from datasets.data_files import DataFilesDict

        from sharegptvideo.errors import UserError

        if self.data_files is not None:
            raise UserError("data_files= is not taken; data_dir= is the folder with the release")
        return load.DatasetModule(
            *table[NAME], {"data_files": DataFilesDict(), "dataset_name": NAME}
        )

    factory.get_module = get_module
