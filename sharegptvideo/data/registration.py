"""Makes `datasets.load_dataset("sharegptvideo", ...)` work, without importing `datasets`.

`datasets` looks names up in a table of packaged modules first. If it is imported already, the
name is added at once; if not, a finder waits for `datasets.load` and adds it then. So the
order of the two imports does not matter, and `import sharegptvideo` stays light.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["NAME", "TABLES_KEY", "TABLES_VERSION", "register"]

NAME = "sharegptvideo"
TABLES_VERSION = 1
"""Raise it when tests/golden/tables.json changes: tables cached under another are not read."""
TABLES_KEY = f"tables-v{TABLES_VERSION}"
"""The folder of cached tables in the cache of `datasets`, in place of its hash of a script."""

_BUILDER = "sharegptvideo.data.builder"
_TARGET = "datasets.load"


def register() -> None:
    """Add the name to the table of `datasets` now, or as soon as `datasets` is imported."""
    if "datasets" in sys.modules:
        try:
            _add_name(importlib.import_module(_TARGET))
        except ImportError:
            return  # some other module called `datasets`, such as a folder of the user's
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _add_name(load: ModuleType) -> None:
    table = getattr(load, "_PACKAGED_DATASETS_MODULES", None)
    factory = getattr(load, "PackagedDatasetModuleFactory", None)
    if table is None or factory is None or NAME in table:
        return
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


class _Waiting(MetaPathFinder):
    """Finds nothing itself: lets the other finders find `datasets.load`, then adds the name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TARGET:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._call_after(spec)
                return spec
        return None

    def _call_after(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        if not hasattr(loader, "exec_module"):
            return
        run = loader.exec_module

        def run_and_add(module: ModuleType) -> None:
            run(module)
            _add_name(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        # On this loader object alone: the module keeps its own loader and its source.
        loader.exec_module = run_and_add
