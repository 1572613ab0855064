"""The base of what is read from YAML: unknown keys, infinities and odd numbers are errors."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from sharegptvideo.errors import problem_words

__all__ = ["StrictModel", "key_problems"]


class StrictModel(BaseModel):
    """Contents of a file: frozen, of known keys only, numbers finite and never booleans."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic takes true for 1, and YAML takes "yes" and "on" for true.
        if isinstance(value, bool) and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("must be a number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """Return a type, or the members of a union."""
    return {annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))}


def key_problems(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    """Yield a phrase for each key that is unknown, with the nearest names, missing or wrong."""
    for problem in error.errors():
        places = [str(part) for part in problem["loc"]]
        # A key of the user's may begin like that, too.
        location = [part for part in places if not part.startswith("<")] or places
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            yield f"unknown key {key} ({_hint(root, location)})"
        elif problem["type"] == "missing":
            yield f"{key} is missing"
        else:
            cause = problem_words(problem)
            value = problem["input"]
            got = "" if isinstance(value, dict | BaseModel) else f", not {_short(value)}"
            yield f"{key}: {cause}{got}" if key else cause


def _short(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


_LONGEST_VALUE = 120


def _hint(root: type[BaseModel], location: list[str]) -> str:
    """Where else the file has a key of that very name, or the nearest names in its section."""
    *path, key = location
    options = list(_fields_at(root, path))
    near = [place for place in _places(root) if place.rpartition(".")[2] == key]
    near = near or difflib.get_close_matches(key, options, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(options)}"


def _fields_at(root: type[BaseModel], path: Sequence[str]) -> Iterator[str]:
    section: type[BaseModel] | None = root
    for part in path:
        if not part.isdecimal():  # the number of an entry: its keys are those of the list
            section = _section(section, part) if section else None
    if section:
        yield from section.model_fields


def _places(root: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every key that the file may have, with dots between levels."""
    for name in root.model_fields:
        yield above + name
        inner = _section(root, name)
        if inner:
            yield from _places(inner, f"{above}{name}.")


def _section(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """Return the section that a field holds, be it optional or one of a list; else None."""
    annotation: Any = model.model_fields[field].annotation
    kinds = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else ()
    held = [annotation, *kinds]
    held += [entry for kind in held for entry in get_args(kind)]
    for kind in held:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
