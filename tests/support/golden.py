"""Results pinned to a version that a person raises, as files in `tests/golden`.

A golden file holds `{version, results}`, where `results` is case → result: what the pinned code
gives for an input that never changes. A test compares, `tests/golden/make.py` writes anew. Neither
takes another result for a known case under the same version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "Pin", "compare", "renew"]

FOLDER = Path(__file__).parents[1] / "golden"
_MAKE = "run `python tests/golden/make.py`"

Results = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pin:
    """What is pinned.

    Attributes:
        name: of the golden file.
        constant: what the version is called, and `where` the file that it is raised in.
        version: gives the version.
        results: gives the results, by case; may write to the folder that it is given.
        tolerance: by how much numbers may differ from the golden ones.
    """

    name: str
    constant: str
    where: str
    version: Callable[[], int]
    results: Callable[[Path], Results]
    tolerance: float = 0.0


def compare(pin: Pin, scratch: Path, folder: Path = FOLDER) -> str | None:
    """What is wrong with the golden file of `pin`, in one line; None where it agrees."""
    file, version = folder / f"{pin.name}.json", pin.version()
    if not file.exists():
        return f"{pin.name}: no golden results yet; {_MAKE}"
    golden = _read(file)
    if golden["version"] != version:
        return (
            f"{pin.name}: {pin.constant} is {version}, the golden results are of "
            f"{golden['version']}; {_MAKE}"
        )
    results = _as_json(pin.results(scratch))
    if changed := _changed(pin, golden["results"], results):
        return changed
    if results.keys() != golden["results"].keys():
        return f"{pin.name}: has other cases than the golden file; {_MAKE}"
    return None


def renew(pin: Pin, scratch: Path, folder: Path = FOLDER) -> str | None:
    """Write the golden file of `pin` anew, or tell in one line why not.

    Not written is another result for a case of the same version: the version has to rise first.
    """
    file, version = folder / f"{pin.name}.json", pin.version()
    results = _as_json(pin.results(scratch))
    if file.exists():
        golden = _read(file)
        if version < golden["version"]:
            return f"{pin.name}: {pin.constant} was {golden['version']} and is {version}; raise it"
        if version == golden["version"]:
            if changed := _changed(pin, golden["results"], results):
                return changed
            # Numbers within the tolerance stay: those of another machine are no better.
            results = {case: golden["results"].get(case, value) for case, value in results.items()}
    cases = ",\n".join(f"  {_text(case)}: {_text(result)}" for case, result in results.items())
    content = f'{{\n "version": {version},\n "results": {{\n{cases}\n }}\n}}\n'
    file.write_text(content, encoding="utf-8")
    return None


def _text(value: Any) -> str:
    """On one line, for a difference between two versions to show the cases that changed."""
    return json.dumps(value, ensure_ascii=False)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _as_json(results: Results) -> Results:
    content: Results = json.loads(json.dumps(results))
    return content


def _changed(pin: Pin, golden: Results, results: Results) -> str | None:
    other = [
        case
        for case, result in golden.items()
        if case in results and not _same(result, results[case], pin.tolerance)
    ]
    if not other:
        return None
    first = f"{other[0]!r}: {_short(golden[other[0]])} before, {_short(results[other[0]])} now"
    return (
        f"{pin.name}: results changed in {len(other)} of {len(golden)} cases ({first}); if that is "
        f"meant, raise {pin.constant} in {pin.where} and {_MAKE}"
    )


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _same(value, other[key], tolerance) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _same(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, float) or (tolerance and isinstance(one, int)):
        number = isinstance(other, int | float) and not isinstance(other, bool)
        return number and math.isclose(one, other, rel_tol=0, abs_tol=tolerance)
    return type(one) is type(other) and bool(one == other)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
