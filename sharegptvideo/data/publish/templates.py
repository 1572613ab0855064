"""Card templates: those of `datasets_cards`, or one's own in their place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from sharegptvideo._io import read_text
from sharegptvideo._shipped import shipped
from sharegptvideo.data.schema import Config
from sharegptvideo.errors import UserError

__all__ = ["PLACES", "CardTemplate", "card_template", "templates_folder"]

PLACES = ("example", "origin", "splits", "rights")
"""What is filled in: an example row, where the rows come from, counts by split and by source."""

_LISTS = ("language", "task_categories", "tags")


@dataclass(frozen=True, slots=True)
class CardTemplate:
    """A card before it is filled in.

    Attributes:
        head: the block that it opens with: licence, language, task_categories, tags, title.
        body: the text below, with `$name` for each of `PLACES`.
        own: whether it is the user's, not the package's.
    """

    head: dict[str, Any]
    body: str
    own: bool

    @property
    def title(self) -> str:
        """What the config is called."""
        return str(self.head["pretty_name"])

    @property
    def licence(self) -> str:
        """The Hub's name for the licence of the rows."""
        return str(self.head["license"])

    def filled(self, **values: str) -> str:
        """The text with all places filled in."""
        return Template(self.body).substitute(values)


def templates_folder() -> Path:
    """Return the folder with the package's templates, to copy one from."""
    return shipped("datasets_cards")


def card_template(config: Config, cards: Path | None) -> CardTemplate:
    """The template of a config: `cards/NAME.md` if it is there, else the package's.

    Raises:
        UserError: no such folder, or a template whose block or places are not right.
    """
    name = f"{config.name}.md"
    if cards is not None and not cards.is_dir():
        raise UserError(f"{cards}: no such folder; --cards is a folder with {name} and the like")
    own = cards is not None and (cards / name).is_file()
    if not own or cards is None:
        text = (templates_folder() / name).read_text("utf-8")
        return _parsed(name, text, own=False)
    return _parsed(str(cards / name), read_text(cards / name), own=True)


def _parsed(where: str, text: str, *, own: bool) -> CardTemplate:
    parts = text.removeprefix("\ufeff").replace("\r\n", "\n").split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise UserError(f"{where}: opens with no block between two lines of ---")
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{where}: the block at the top is not YAML ({cause})") from error
    head = head if isinstance(head, dict) else {}
    for name in ("pretty_name", "license"):
        if not isinstance(head.get(name), str):
            raise UserError(f"{where}: the block at the top has no text under {name!r}")
    for name in _LISTS:
        values = head.setdefault(name, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UserError(f"{where}: {name!r} in the block at the top is not a list of texts")
    body = Template(parts[2])
    unknown = [name for name in body.get_identifiers() if name not in PLACES]
    if unknown or not body.is_valid():
        wrong = f"${unknown[0]}" if unknown else "a $ before no name"
        places = ", ".join(f"${name}" for name in PLACES)
        raise UserError(f"{where}: {wrong} in the text (places: {places}; $$ is a dollar sign)")
    return CardTemplate(head, parts[2], own)
