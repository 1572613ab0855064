"""One card for each config, true to the schema."""

from __future__ import annotations

import re
from string import Template

import pytest
import yaml

from sharegptvideo.data.publish.facts import PLACES, templates_folder
from sharegptvideo.data.schema import CONFIGS

SECTIONS = ["Columns", "How it was made", "Splits", "Licence", "Known limits", "Citation"]


def _card(name: str) -> str:
    return (templates_folder() / f"{name}.md").read_text("utf-8")


def test_no_card_without_a_config() -> None:
    cards = {path.stem for path in templates_folder().glob("*.md")}
    assert cards - {"README"} == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_columns_are_those_of_the_schema(name: str) -> None:
    found = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", _card(name), flags=re.MULTILINE)
    assert [column for column, _ in found] == list(CONFIGS[name].columns)
    assert {column for column, kind in found if "null" in kind} == CONFIGS[name].nullable


@pytest.mark.parametrize("name", CONFIGS)
def test_sections_head_and_placeholders(name: str) -> None:
    card = _card(name)
    assert re.findall(r"^## (.+)$", card, flags=re.MULTILINE) == SECTIONS
    _, head, body = card.split("---\n", 2)
    meta = yaml.safe_load(head)
    assert body.startswith(f"# {meta['pretty_name']}\n")
    # Where each is filled in: the reader finds the example below the columns, and so on.
    sections = dict(part.split("\n", 1) for part in re.split(r"^## ", card, flags=re.MULTILINE)[1:])
    places = {"Columns": "example", "How it was made": "origin", "Splits": "splits"}
    for section, place in {**places, "Licence": "rights"}.items():
        assert Template(sections[section]).get_identifiers() == [place]
    assert set(Template(card).get_identifiers()) == set(PLACES)
