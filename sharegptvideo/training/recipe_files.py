"""Recipes from YAML: those that come with the package and a user's own, with `key=value` changes.

A recipe is one training, or with `steps` several in a row:

    steps:
      captions: {data: {files: video_caption_300k.jsonl}}
      answers: {data: {files: video_240k_caption_15k.jsonl}}

Each step is the recipe with its own keys changed, writes to OUTPUT/NAME, and starts from the model
of the step before.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.training.recipe import STAGES, Recipe

__all__ = ["load_recipe", "load_steps", "maker_of", "recipe_names", "recipe_text"]

_FOLDER = "training/recipes"
_STEPS = "steps"
_DEMO_MODELS = ("demo-out", "models")  # of `sharegptvideo demo` without --out


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, as `train run` takes them."""
    files = shipped(_FOLDER).glob("*/*.yaml")
    return sorted(f"{file.parent.name}/{file.stem}" for file in files)


def maker_of(model: str) -> str | None:
    """Return the command that makes the folder `model` as shipped recipes name it, or None."""
    if Path(model).parts[:2] == _DEMO_MODELS:
        return "sharegptvideo demo"
    for name in recipe_names():
        if any(step.output == model for step in load_steps(name)):
            return f"sharegptvideo train run {name}"
    return None


def recipe_text(name_or_file: str) -> str:
    """The YAML of a file, or of a recipe that comes with the package.

    Raises:
        UserError: neither; the nearest names are given.
    """
    file = Path(name_or_file)
    if file.suffix in {".yaml", ".yml"} or file.is_file():
        return read_text(file, "name a recipe of `train ls`, or a file with one")
    if name_or_file not in recipe_names():
        raise unknown_name("recipe", name_or_file, recipe_names())
    return (shipped(_FOLDER) / f"{name_or_file}.yaml").read_text(encoding="utf-8")


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe of one training, apply overrides and check all of it; see `load_steps`.

    Raises:
        UserError: as `load_steps`; or the recipe has several steps.
    """
    recipes = load_steps(name_or_file, overrides)
    if len(recipes) > 1:
        names = ", ".join(Path(recipe.output).name for recipe in recipes)
        raise UserError(
            f"recipe {name_or_file}: has {len(recipes)} steps ({names}); load_steps reads them"
        )
    return recipes[0]


def load_steps(name_or_file: str, overrides: Sequence[str] = ()) -> list[Recipe]:
    """Read a recipe, apply `dotted.key=value` overrides (values as YAML) and check all of it.

    Returns:
        the trainings it is made of, in order: one, or one for each of its `steps`.

    Raises:
        UserError: not YAML, or one message with every unknown key (and its nearest names), bad
            value and missing field.
    """
    where = f"recipe {name_or_file}"
    content = parse_yaml(where, recipe_text(name_or_file))
    if not isinstance(content, dict):
        raise UserError(f"{where}: a recipe is a mapping of keys to values")
    for override in overrides:
        _override(content, override)
    if _STEPS not in content:
        return [_checked(where, content)]
    steps = content.pop(_STEPS)
    if not isinstance(steps, dict) or not steps:
        raise UserError(f"{where}: steps is a mapping of names to the keys that each changes")
    return list(_step_by_step(where, content, steps))


def _step_by_step(where: str, base: dict[str, Any], steps: dict[Any, Any]) -> Iterator[Recipe]:
    output = base.get("output")
    for name, changes in steps.items():
        here = f"{where}, step {name}"
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(name)):
            raise UserError(f"{here}: a step's name is a folder's: letters, digits, _ and -")
        if not isinstance(changes, dict | None):
            raise UserError(f"{here}: a mapping of the keys that this step changes")
        if "output" in (changes or {}):
            raise UserError(f"{here}: output is {output}/{name}; change output above the steps")
        content = _merged(base, changes or {})
        if isinstance(output, str):
            content["output"] = str(Path(output) / str(name))
        recipe = _checked(here, content)
        base = {**base, "model": recipe.output}
        yield recipe


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        both[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return both


def _checked(where: str, content: dict[str, Any]) -> Recipe:
    if "stage" not in content:
        raise UserError(f"{where}: stage is missing (one of {', '.join(STAGES)})")
    stage = str(content["stage"])
    if stage not in STAGES:
        raise unknown_name(f"stage in {where}:", stage, STAGES)
    try:
        return STAGES[stage].model_validate(content)
    except ValidationError as error:
        problems = list(_problems(error, STAGES[stage]))
        raise UserError(f"{where}: {'; '.join(problems)}") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        hint = "; options such as --dry-run start with two dashes" if key[:1] == "-" else ""
        raise UserError(
            f"override {override!r}: write it as key=value, with dots between levels{hint}"
        )
    value = parse_yaml(f"override {override!r}", text)
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}  # absent, or null: an optional section is opened by its first key
        place = place[parent]
        if not isinstance(place, dict):
            raise UserError(f"override {override!r}: {parent} has no keys below it")
    place[last] = value


def _problems(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            yield f"unknown key {key} ({_hint(root, location)})"
        elif problem["type"] == "missing":
            yield f"{key} is missing"
        else:
            cause = problem["msg"].removeprefix("Value error, ")
            value = problem["input"]
            got = "" if isinstance(value, dict | BaseModel) else f", not {value!r}"
            yield f"{key}: {cause}{got}" if key else cause


def _hint(root: type[BaseModel], location: list[str]) -> str:
    """Where else the recipe has a key of that very name, or the nearest names in its section."""
    *path, key = location
    options = list(_fields_at(root, path))
    near = [place for place in _places(root) if place.rpartition(".")[2] == key]
    near = near or difflib.get_close_matches(key, options, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(options)}"


def _fields_at(root: type[BaseModel], path: Sequence[str]) -> Iterator[str]:
    section: type[BaseModel] | None = root
    for part in path:
        section = _section(section, part) if section else None
    if section:
        yield from section.model_fields


def _places(root: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every key that a recipe may have, with dots between levels."""
    for name in root.model_fields:
        yield above + name
        inner = _section(root, name)
        if inner:
            yield from _places(inner, f"{above}{name}.")


def _section(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """The section that a field holds, be it optional; None where it holds a value."""
    annotation: Any = model.model_fields[field].annotation
    kinds = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else ()
    for kind in (annotation, *kinds):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
