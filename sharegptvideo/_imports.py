"""Act on another package's module when it is imported, without importing it first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["after_import"]

Action = Callable[[ModuleType], None]


def after_import(name: str, action: Action) -> None:
    """Call `action` with the module `name`: now if it is imported, else as soon as it is.

    So the order of the two imports does not matter, and importing ours stays light.

    Args:
        name: dotted, such as `datasets.load`.
    """
    if name in sys.modules:
        action(sys.modules[name])
    elif not any(isinstance(f, _Waiting) and f.name == name for f in sys.meta_path):
        sys.meta_path.insert(0, _Waiting(name, action))


class _Waiting(MetaPathFinder):
    """Find nothing itself: let the other finders find the module, and act after it has run."""

    def __init__(self, name: str, action: Action) -> None:
        self.name = name
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._act_after(spec)
                return spec
        return None

    def _act_after(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        if not hasattr(loader, "exec_module"):
            return
        run = loader.exec_module

        def run_and_act(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            self._action(module)

        # On this loader object alone: the module keeps its own loader and its source.
        loader.exec_module = run_and_act
