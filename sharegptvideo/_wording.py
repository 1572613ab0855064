"""Prompt files: strict YAML with a version and a hash, and places in its texts to be filled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field, ValidationError

from sharegptvideo._io import parse_yaml, read_text, sha256_text
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo.errors import UserError, field_problems

__all__ = ["Wording", "braced", "fill", "places", "wording_of"]

_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")  # {answer}, and not the braces of JSON


class Wording(StrictModel):
    """The contents of a prompt file; `version` goes up with whatever changes what is asked."""

    version: Annotated[int, Field(ge=1)]

    not_hashed: ClassVar[frozenset[str]] = frozenset({"version"})

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all that shapes what comes out: wording, form."""
        shaping = self.model_dump(mode="json", exclude=set(self.not_hashed))
        return sha256_text(json.dumps(shaping, sort_keys=True))[:16]


_W = TypeVar("_W", bound=Wording)


def wording_of(kind: type[_W], file: str | Path) -> _W:
    """Read a prompt file: the user's (a Path), or ours by its name (`eval/prompts/official.yaml`).

    Raises:
        UserError: it cannot be used: every fault in one line.
    """
    if isinstance(file, Path):
        return _parse(kind, str(file), read_text(file, "name another prompt file"))
    folder, _, name = file.rpartition("/")
    return _parse(kind, file.partition("/")[2], _text(shipped(folder) / name))


@cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _parse(kind: type[_W], where: str, text: str) -> _W:
    values = parse_yaml(where, text)
    if not isinstance(values, dict):
        raise UserError(f"{where}: needs one key: value a line")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(field_problems(error))}") from error


def places(template: str) -> list[str]:
    """Return the names of the places in a text, in their order.

    >>> places('{question}: reply {"score": 1}')
    ['question']
    """
    return _PLACE.findall(template)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in their places in one pass, so that no value is taken for a place."""
    return _PLACE.sub(lambda place: values[place[1]], template)


def braced(names: Iterable[str]) -> str:
    """Return names as the places of a text are written.

    >>> braced(["question", "answer"])
    '{question}, {answer}'
    """
    return ", ".join(f"{{{name}}}" for name in names)
