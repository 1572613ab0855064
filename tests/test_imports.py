"""Which way imports point: the graph of the package's modules, drawn from their source."""

from __future__ import annotations

import ast
import functools
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = "sharegptvideo"
GROUND = frozenset(
    f"{TOP}.{name}"
    for name in (
        "_concurrency",
        "_imports",
        "_install",
        "_io",
        "_network",
        "_runs",
        "_shipped",
        "_sqlite",
        "_staging",
        "_strict",
        "_markdown",
        "_text",
        "_wording",
        "errors",
    )
)
ORDER = (
    {"__main__", "cli", "demo", "study"},
    {"training", "reports"},
    {"eval"},
    {"build", "models"},
    {"data"},
    {"judges"},
    {"endpoint", "media", "synthetic"},
)
"""The package's rooms from top to bottom; arrows point down, or to a room of the same line.

Judges stand below `data` and not beside `build`: they know no rows, and `data stats` measures how
far captions support answers by the rules of `answer-match`.
"""

Graph = Mapping[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """The file of every module below `root`, by the module's name."""
    files = sorted((root / TOP).rglob("*.py"))
    return {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def imports(file: Path) -> list[tuple[str, str, str]]:
    """All imports of ours in a file, those for types and in functions included.

    Each is a module, the name that is taken from it ("" for the module itself), and the name
    that it has in the file.
    """
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [
                (str(node.module), alias.name, alias.asname or alias.name) for alias in node.names
            ]
    return [one for one in found if f"{one[0]}.".startswith(f"{TOP}.")]


def import_graph(root: Path) -> dict[str, set[str]]:
    """For every module below `root`, the modules that it imports.

    A name that a package re-exports is an import of the submodule that defines it. That importing
    a submodule also runs the packages above it is not counted.
    """
    files = modules(root)
    imported = {name: imports(file) for name, file in files.items()}

    def defining(module: str, name: str) -> str:
        if f"{module}.{name}" in files:  # a submodule
            return f"{module}.{name}"
        if files[module].name == "__init__.py":
            for source, original, here in imported[module]:
                if here == name:
                    return defining(source, original)
        return module

    return {
        module: {defining(source, name) for source, name, _ in found} - {module}
        for module, found in imported.items()
    }


def package_of(module: str) -> str:
    """The package one level down that a module is in; a loose module stands for itself."""
    return ".".join(module.split(".")[:2])


def packages(graph: Graph) -> dict[str, set[str]]:
    """The same graph between packages one level down."""
    found: dict[str, set[str]] = {}
    for module, used in graph.items():
        package = package_of(module)
        found.setdefault(package, set()).update(map(package_of, used))
        found[package].discard(package)
    return found


def way_back(graph: Graph, start: str) -> list[str]:
    """The shortest way along arrows from a node to itself, both ends included, or []."""
    before: dict[str, str] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for following in sorted(graph[node]):
            if following == start:
                way = [start, node]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if following not in before:
                before[following] = node
                queue.append(following)
    return []


def shortest_cycle(graph: Graph) -> list[str]:
    """The shortest cycle, its first node again at the end, or []."""
    return min(filter(None, (way_back(graph, node) for node in sorted(graph))), key=len, default=[])


def arrows(graph: Graph, way: list[str]) -> list[str]:
    """For each step between two packages, the imports that make it: `importer -> imported`."""
    return [
        f"{module} -> {other}"
        for package, following in pairwise(way)
        for module, used in sorted(graph.items())
        if package_of(module) == package
        for other in sorted(used)
        if package_of(other) == following
    ]


@functools.cache
def ours() -> dict[str, set[str]]:
    return import_graph(ROOT)


def test_no_cycle_between_modules() -> None:
    assert " -> ".join(shortest_cycle(ours())) == ""


def test_no_cycle_between_packages() -> None:
    way = shortest_cycle(packages(ours()))
    assert not way, f"{' -> '.join(way)}, by {'; '.join(arrows(ours(), way))}"


@pytest.mark.parametrize("name", sorted(GROUND))
def test_ground_imports_only_ground(name: str) -> None:
    assert ours()[name] <= GROUND


def rooms(folder: Path) -> set[str]:
    """The packages and modules at the top of `folder`, the ground and `__init__` apart."""
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py"}
    names |= {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
    return names - {"__init__"} - {name.removeprefix(f"{TOP}.") for name in GROUND}


def wrong_arrows(graph: Graph) -> list[str]:
    """Imports that point up in `ORDER`: `importer -> imported`."""
    level = {f"{TOP}.{room}": n for n, row in enumerate(ORDER) for room in row}
    level |= dict.fromkeys(GROUND, len(ORDER))
    level[TOP] = -1  # the public names, gathered from below; nothing imports them from above
    return [
        f"{module} -> {other}"
        for module, used in sorted(graph.items())
        for other in sorted(used)
        if level[package_of(module)] > level[package_of(other)]
    ]


def test_arrows_point_down() -> None:
    assert wrong_arrows(ours()) == []


def test_every_module_is_in_a_room() -> None:
    """No loose modules at the top: a module is in the room that uses it, or in the ground."""
    assert rooms(ROOT / TOP) - set().union(*ORDER) == set()


def single_users(graph: Graph, loose: Iterable[str]) -> dict[str, list[str]]:
    """The loose modules at the top that serve fewer than two packages, each with those it serves.

    A user is a package one level down, or a loose module that is no ground.
    """
    users = {
        module: {package_of(user) for user, used in graph.items() if module in used}
        for module in loose
    }
    return {
        module: served
        for module, using in users.items()
        if len(served := sorted(using - GROUND - {TOP})) < 2
    }


def test_a_loose_module_serves_two_packages() -> None:
    """A module at the top with one user belongs into that user's room."""
    loose = {f"{TOP}.{file.stem}" for file in (ROOT / TOP).glob("*.py")}
    entries = {f"{TOP}.__init__", f"{TOP}.__main__"}
    assert single_users(ours(), sorted(loose - entries)) == {}


def test_a_loose_module_with_one_user_is_named() -> None:
    graph = {
        f"{TOP}._io": set(),
        f"{TOP}._text": {f"{TOP}._io"},
        f"{TOP}.data.load": {f"{TOP}._io", f"{TOP}._text"},
        f"{TOP}.data.rows": {f"{TOP}._text"},
        f"{TOP}.eval.run": {f"{TOP}._io"},
    }
    assert single_users(graph, [f"{TOP}._io", f"{TOP}._text"]) == {f"{TOP}._text": [f"{TOP}.data"]}


def test_an_arrow_that_points_up_is_named() -> None:
    graph = {f"{TOP}.eval.run": {f"{TOP}.data.load", f"{TOP}._io"}, f"{TOP}.data.load": set()}
    assert wrong_arrows(graph) == []
    graph[f"{TOP}.data.load"].add(f"{TOP}.eval.run")
    assert wrong_arrows(graph) == [f"{TOP}.data.load -> {TOP}.eval.run"]


SMALL = {
    "__init__": f"from {TOP}.first import one",
    "first/__init__": f"from {TOP}.first.one import one, helper as renamed",
    "first/one": "one = helper = 1",
    "first/two": f"def late():\n    from {TOP}.second import far, three",
    "second/__init__": f"from {TOP}.second.three import far",
    "second/three": "far = 3",
}


def graph_of(root: Path, sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The graph of a package with these files."""
    for name, source in sources.items():
        file = root / TOP / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return import_graph(root)


def short(names: Iterable[str]) -> list[str]:
    return [name.removeprefix(f"{TOP}.") for name in names]


def test_reexported_name_is_an_import_of_its_module(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, SMALL | {"second/three": f"from {TOP}.first import renamed"})
    assert short(graph[f"{TOP}.second.three"]) == ["first.one"]
    assert short(graph[f"{TOP}.first.two"]) == ["second.three"]
    assert shortest_cycle(graph) == [], "second/three imports a name of first, not first/two"


def test_cycle_between_packages_names_both_arrows(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, SMALL | {"second/three": f"from {TOP}.first import renamed"})
    way = shortest_cycle(packages(graph))
    assert short(way) == ["first", "second", "first"]
    assert arrows(graph, way) == [
        f"{TOP}.first.two -> {TOP}.second.three",
        f"{TOP}.second.three -> {TOP}.first.one",
    ]


@pytest.mark.parametrize(
    "source",
    [
        f"import {TOP}.first.two",
        f"from {TOP}.first import two",
        f"from {TOP}.first.two import late as later",
        f"def inner():\n    import {TOP}.first.two as two",
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {TOP}.first import two",
    ],
)
def test_cycle_between_modules_is_named(tmp_path: Path, source: str) -> None:
    assert shortest_cycle(graph_of(tmp_path, SMALL)) == []
    found = shortest_cycle(graph_of(tmp_path, SMALL | {"second/three": source}))
    assert short(found) == ["first.two", "second.three", "first.two"]
