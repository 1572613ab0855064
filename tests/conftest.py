"""What every test folder shares."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real clips, annotations and miniature release beside the project; skips without them."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder.parent.name}/{folder.name} beside the project")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the tests out of the user's cache folder; one folder for the whole session."""
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
