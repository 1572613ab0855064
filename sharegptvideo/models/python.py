"""Answers from a function of the user's: the shortest way to try a model of any other kind."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import sha256_file
from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Model, Request, SamplingParams

__all__ = ["PythonModel"]


class PythonModel(Model):
    """`python:module:function`, called as `function(frames, question) -> str` for each answer.

    `frames` is a list of uint8 arrays H×W×3 (RGB). The module is looked for in the current folder
    as well. What the function raises is that question's failure. Temperature, seed and length of
    an answer are up to the function.
    """

    obeys = frozenset({"frames"})

    def __init__(self, name: str) -> None:
        """Import the function.

        Raises:
            UserError: the module or function is not there, or its import fails.
        """
        self.spec = f"python:{name}"
        self._name = name
        module_name, colon, function_name = name.partition(":")
        if not colon or not function_name:
            raise UserError(f"model {self.spec}: write python:module:function")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # a user's module may raise anything when imported
            raise UserError(
                f"model {self.spec}: cannot import {module_name} ({type(error).__name__}: {error})"
            ) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            raise UserError(f"model {self.spec}: {module_name} has no function {function_name!r}")
        self._function: Callable[[list[Any], str], object] = function
        self._file: str | None = getattr(module, "__file__", None)

    def describe(self) -> dict[str, Any]:
        """Return kind, name and hash of the module's file (not of what it imports)."""
        return {
            "kind": "python",
            "name": self._name,
            "weights_hash": sha256_file(Path(self._file)) if self._file else None,
        }

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Call the function once for each answer."""
        for request in requests:
            yield self._answer(request, params.n)

    def _answer(self, request: Request, n: int) -> Answer:
        texts: list[str] = []
        for _ in range(n):
            frames = [] if request.frames is None else list(request.frames)
            try:
                reply = self._function(frames, request.prompt)
            except Exception as error:  # noqa: BLE001 - a user's function may raise anything
                return Answer(request, error=f"{type(error).__name__}: {error}")
            if not isinstance(reply, str):
                return Answer(
                    request, error=f"{self._name} returned {type(reply).__name__}, not str"
                )
            texts.append(reply)
        return Answer(request, tuple(texts))
