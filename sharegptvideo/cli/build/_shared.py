"""Options that the commands of `sharegptvideo build` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["OutOption", "SeedOption"]

OutOption = Annotated[Path, typer.Option("--out", help="Folder to write; resumable.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the draw.")]
