"""The package as a whole: what importing it loads, what it makes public, what it ships."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sharegptvideo
from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError
from tests.support.fresh_python import run_python

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sharegptvideo"
BESIDE = ("eval", "training", "datasets_cards")
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
    """Name and file of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


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
        "import sharegptvideo.build",
        "import sharegptvideo.models, sharegptvideo.eval, sharegptvideo.training",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == []


def test_importing_leaves_registered_name_to_first_use() -> None:
    assert "datasets" in loaded_by("import datasets, sharegptvideo")


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


def test_code_lies_where_it_is_imported_from() -> None:
    assert not [path for folder in BESIDE for path in (ROOT / folder).rglob("*.py")]
    folders = {path.parent for _, path in modules()}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_pins_cover_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    common = [*project["dependencies"], *extras["train"], *extras["eval"]]
    for file, asked in (
        ("constraints.txt", [*common, *extras["ray"], *extras["docs"], *extras["dev"]]),
        ("constraints-peers.txt", [*common, *extras["lmms-eval"], "torchvision", "pytest"]),
    ):
        lines = [line for line in (ROOT / file).read_text().splitlines() if line[:1] != "#"]
        pinned = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
        for requirement in map(Requirement, asked):
            if requirement.name != "sharegptvideo":
                version = pinned[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(version), f"{file}: {requirement}"


LISTING = """
import json
import sharegptvideo
from sharegptvideo.eval import list_tasks
from sharegptvideo.eval.lmms_eval_tasks import folder
from sharegptvideo.eval.published import published_table
from sharegptvideo.eval.submission_check import board_settings
from sharegptvideo.build.captions import caption_wording
from sharegptvideo.build.qa import qa_wording
from sharegptvideo.judges.protocol import PROTOCOLS, load_protocol
from sharegptvideo.data.publish import templates_folder
from sharegptvideo.training.recipes import recipe_names, recipe_text
from sharegptvideo.training.launch import config_names, config_path

prompts = [(name, None) for name in PROTOCOLS]
prompts.append(("caption-grounded", "frames"))
listed = {
    "eval/tasks/*": {task.name: task.model_dump_json() for task in list_tasks()},
    "eval/prompts/*": {f"{p} {sees}": load_protocol(p, sees=sees).hash for p, sees in prompts},
    "eval/leaderboard/*": {
        "published": published_table().model_dump_json(),
        "settings": board_settings().model_dump_json(),
    },
    "eval/lmms_eval_tasks/*": {file.stem: file.read_text() for file in folder().iterdir()},
    "training/recipes/*/*": {name: recipe_text(name) for name in recipe_names()},
    "training/accelerate/*": {name: config_path(name).read_text() for name in config_names()},
    "datasets_cards/*.md": {f.stem: f.read_text() for f in templates_folder().glob("*.md")},
    "datasets_cards/prompts/*": {w.hash: w.version for w in (caption_wording(), qa_wording())},
}
print(json.dumps([sharegptvideo.__file__, listed]))
"""


def listed_from(folder: Path, elsewhere: Path) -> dict[str, dict[str, str]]:
    """What the package in `folder` lists: the names and contents of tasks, recipes and so on."""
    place, listed = json.loads(run_python(LISTING, elsewhere, PYTHONPATH=str(folder)))
    assert Path(place).parent == folder / "sharegptvideo"
    return listed


def run_pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    subprocess.run([*command, "--no-deps", "--no-build-isolation"], check=True)


def names_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return listed_from(ROOT, tmp_path_factory.mktemp("elsewhere"))


def test_checkout_lists_the_files_beside_it(checkout: dict[str, dict[str, str]]) -> None:
    for pattern, entries in checkout.items():
        assert len(entries) == len([path for path in ROOT.glob(pattern) if path.is_file()]) > 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that is made of it."""
    pytest.importorskip("hatchling", reason="builds without the network need hatchling here")
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (source,) = out.glob("*.tar.gz")
    run_pip("wheel", source, "-w", out)
    return out


def test_wheel_holds_the_package_and_what_lies_beside_it(built: Path, tmp_path: Path) -> None:
    """The wheel of the source distribution, and of the checkout; nothing else is in either."""
    run_pip("wheel", ROOT, "-w", tmp_path)
    expected = set()
    for folder in (PACKAGE, *(ROOT / name for name in BESIDE)):
        inside = Path("sharegptvideo", "" if folder == PACKAGE else f"_shipped_files/{folder.name}")
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add((inside / path.relative_to(folder)).as_posix())
    (wheel,), (direct,) = built.glob("*.whl"), tmp_path.glob("*.whl")
    assert names_in(wheel) == names_in(direct) == expected


def test_wheel_works_in_an_environment_of_its_own(
    built: Path, checkout: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """In which the packages that it needs are those of this one, so that no network is needed."""
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (packages / "needed.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    run_pip("--python", python, "install", next(built.glob("*.whl")))
    assert listed_from(packages, tmp_path) == checkout
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (
        [python, "-m", "sharegptvideo", "--help"],
        [python.with_name("sharegptvideo"), "train", "ls"],
    ):
        ran = subprocess.run(
            command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
        )
        assert "train" in ran.stdout
    assert "llava_hound/dpo" in ran.stdout


def test_twine_has_nothing_to_say_of_what_is_built(built: Path) -> None:
    pytest.importorskip("twine", reason="no twine here; make setup installs it")
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    ran = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("PASSED") == 2


def test_editable_install_points_at_the_checkout(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds without the network need hatchling here")
    run_pip("install", "--target", tmp_path, "-e", ROOT)
    (pth,) = tmp_path.glob("*.pth")
    assert Path(pth.read_text().strip()).samefile(ROOT)
    assert not (tmp_path / "sharegptvideo").exists()


def test_folder_that_does_not_ship() -> None:
    with pytest.raises(UserError, match="eval/nothing: no such folder; install sharegptvideo"):
        shipped("eval/nothing")
