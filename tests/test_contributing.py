"""The paths that CONTRIBUTING.md shows a newcomer lead through functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOP = re.compile(r"`([a-z_/]+\.py)`\s+`([A-Za-z_.]+)`")


def defined(file: Path) -> set[str]:
    """The functions, classes and methods of a file, methods as `Class.method`."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (ast.FunctionDef, ast.AsyncFunctionDef)
            names |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, methods)}
    return names


def test_every_step_of_the_four_paths_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.split("## Four paths to begin with")[1].split("\n## ")[0]
    paths = section.split("\n- **")[1:]
    assert len(paths) == 4
    for path in paths:
        hops = HOP.findall(path)
        assert 3 <= len(hops) <= 6, path
        for name, function in hops:
            file = ROOT / "sharegptvideo" / name
            assert file.is_file(), f"{name}: no such file"
            assert function in defined(file), f"{name} has no {function}"
