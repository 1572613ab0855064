"""The package as a whole: what importing it loads, which way imports point, what it ships."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sharegptvideo

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "sharegptvideo": "sharegptvideo",
    "eval": "sharegptvideo.eval",
    "training": "sharegptvideo.training",
    "datasets_cards": "sharegptvideo.datasets_cards",
}
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "trl",
    "peft",
    "accelerate",
    "openai",
    "matplotlib",
    "scipy",
    "pandas",
    "pyarrow",
    "av",
)


def modules() -> Iterator[tuple[str, Path]]:
    """Installed name and file of every module that ships."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), path


def ours_imported(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere in it, `TYPE_CHECKING` blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("sharegptvideo.")}


def below(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"sharegptvideo.{package}.") for package in packages)


def loaded_by(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has loaded after `code`."""
    check = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "code",
    [
        "import sharegptvideo",
        "import sharegptvideo.cli",
        "import sharegptvideo.pipeline",
        "import sharegptvideo.modeling, sharegptvideo.eval, sharegptvideo.training",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == []


def test_importing_leaves_registered_name_to_first_use() -> None:
    assert "datasets" in loaded_by("import datasets, sharegptvideo")


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_imports_point_one_way(name: str, path: Path) -> None:
    used = ours_imported(path)
    if not below(name, "cli", "demo", "__main__"):
        assert not {other for other in used if below(other, "cli", "demo")}
        others = [side for side in ("eval", "training") if not below(name, side)]
        assert not {other for other in used if below(other, *others)}
    if name == "sharegptvideo.schema":
        assert not used
    if below(name, "media", "llm"):
        may = (name.split(".")[1], "_cores", "_sqlite", "cache", "errors", "storage", "workers")
        assert not {other for other in used if not below(other, *may)}


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_public_modules_say_what_is_public(name: str, path: Path) -> None:
    if name.rsplit(".", 1)[-1].startswith("__"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path}: no docstring"
    defined = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    targets = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert not defined or "__all__" in targets, f"{path}: no __all__"


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sharegptvideo.__version__ == project["version"]


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {name for name, path in modules() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(there)


def test_pins_cover_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["train"], *extras["eval"], *extras["dev"]]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {
        requirement.split("[")[0].split(">")[0].strip().lower().replace("_", "-")
        for requirement in asked
    }
    assert names - {"sharegptvideo"} <= pinned


@pytest.mark.slow
def test_wheel_holds_every_file(tmp_path: Path) -> None:
    """Built from a copy: setuptools leaves its working files beside the sources."""
    import shutil

    pytest.importorskip("setuptools", reason="builds without the network need setuptools here")
    tree = tmp_path / "tree"
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(tree)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = Path(*package.split(".")) / path.relative_to(ROOT / folder)
                assert inside.as_posix() in shipped
