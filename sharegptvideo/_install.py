"""How this package was installed, and the commands that install what it lacks."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path

__all__ = ["extras_with", "install_line"]

_NAME = "sharegptvideo"


def install_line(*extras: str) -> str:
    """Return the command that installs this package with `extras`, from where it was installed.

    A checkout by its folder, a wheel or repository by its address (PEP 610), else by its name.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        folder = "." if root == Path.cwd() else str(root)
        return f"pip install -e {shlex.quote(folder + wanted)}"
    address = _address()
    if address is None:
        return f"pip install {shlex.quote(_NAME + wanted)}"
    return f"pip install {shlex.quote(f'{_NAME}{wanted} @ {address}')}"


def extras_with(module: str) -> list[str]:
    """Return the extras of this package that bring a module, by its top name; "" for the core."""
    from packaging.requirements import Requirement

    distributions = {"google": "protobuf", "PIL": "pillow", "yaml": "pyyaml"}
    name = distributions.get(module, module).lower().replace("_", "-")
    extras = []
    for text in _requires():
        requirement = Requirement(text)
        if requirement.name.lower().replace("_", "-") != name:
            continue
        marker = str(requirement.marker or "")
        extras.append(marker.partition("extra == ")[2].strip("\"'"))
    return sorted({*extras} - {"dev"})


def _requires() -> list[str]:
    try:
        return importlib.metadata.requires(_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _address() -> str | None:
    """Return the address that pip recorded, None where it took the package from an index."""
    try:
        text = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        record = json.loads(text or "null")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    if not isinstance(record, dict) or "url" not in record:
        return None
    source = record.get("vcs_info")
    return f"{source['vcs']}+{record['url']}@{source['commit_id']}" if source else record["url"]
