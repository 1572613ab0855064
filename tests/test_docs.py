"""The documentation site is built without warnings, is whole, and loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from sharegptvideo.cli import app
from sharegptvideo.training.recipes import DpoRecipe

ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"<(?:script|img|iframe|video|source|link)\b[^>]*?(?:src|href)=[\"']?(https?:)?//"
)


@pytest.fixture(scope="module")
def site_builder() -> Any:
    """`docs/build.py`, a program, as a module."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(site_builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("zensical", "mkdocstrings_handlers"):
        pytest.importorskip(name, reason=f"no {name} here; make setup installs it")
    return Path(site_builder.build(tmp_path_factory.mktemp("docs")))


def pages_of(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")
    }


def test_site_is_whole_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = pages_of(site)
    for command in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"reference/commands/{command}.html" in pages
    home = pages["index.html"]
    linked = ("source/", "project/")  # from pages of the navigation, whose links are checked
    unlisted = [name for name in pages if name not in home and not name.startswith(linked)]
    assert unlisted == ["404.html"]
    assert not [name for name, text in pages.items() if LOADED.search(text)]


def test_reference_is_of_docstrings_schemas_and_help(site: Path) -> None:
    pages = pages_of(site)
    for name, text in {
        "reference/python/sharegptvideo.eval.html": "sharegptvideo.eval.run_evaluation",
        "reference/tasks.html": "Unseen clips of the synthetic world",
        "reference/files/recipe.html": "gradient_checkpointing",
        "reference/files/task.html": "max_new_tokens",
        "reference/commands/eval.html": "--max-new-tokens",
    }.items():
        assert text in pages[name], name


def test_keys_have_types_ranges_and_defaults(site_builder: Any) -> None:
    text = site_builder._keys(DpoRecipe.model_json_schema())
    for row in (
        "| `frames` | whole number ≥ 1 | `8` |",
        "| `lora` | section [lora](#lora), or null | `null` |",
        "| `learning_rate` | number > 0, ≤ 10 | needed |",
        '| `order` | `by_length`, `random`, `plain` | `"by_length"` |',
        "| `beta` | number > 0 | `0.1` |",
    ):
        assert row in text.splitlines(), row


def test_link_that_leads_nowhere_is_an_error(site_builder: Any, tmp_path: Path) -> None:
    page = ROOT / "docs" / "loop.md"
    site_builder._led(page)
    (tmp_path / "page.md").write_text("See [this](nothing.md), not `[that](nothing.md)`.")
    with pytest.raises(RuntimeError, match=r"page\.md: nothing\.md: no such file"):
        site_builder._led(tmp_path / "page.md")


def test_a_folder_with_something_else_is_left_alone(site_builder: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RuntimeError, match="not empty, and no site was made there"):
        site_builder.build(tmp_path)
    assert (tmp_path / "mine.txt").is_file()
