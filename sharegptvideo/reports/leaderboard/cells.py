"""Cells of the board's tables: a model's name with the address of its row, and a link to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from sharegptvideo.reports.parts import Name, link

__all__ = ["ModelName", "RowLink"]


@dataclass(frozen=True, slots=True)
class ModelName(Name):
    """A model's name at the head of its row.

    Attributes:
        anchor: the row's address on the page, which stands after the name.
        facets: what the row is filtered by (`filter.js`).
    """

    anchor: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)

    @property
    def linked(self) -> Markup:
        """The name's HTML: it leads to the model's own page, if that is an https address."""
        data = Markup("").join(
            Markup(' data-{}="{}"').format(name, value) for name, value in self.facets.items()
        )
        shown = link(self.text, self.link)
        if self.link and not self.link.lower().startswith("https://"):
            shown = Markup("{} ({})").format(self.text, self.link)
        return Markup(
            '<span class="facets" id="{0}"{1}></span>{2}'
            ' <a class="anchor" href="#{0}" aria-label="address of this row">#</a>'
        ).format(self.anchor, data, shown)


@dataclass(frozen=True, slots=True)
class RowLink(Name):
    """A model's name that leads to its row: `anchor` on the index."""

    anchor: str = ""

    @property
    def linked(self) -> Markup:
        """The name's HTML."""
        return Markup('<a href="index.html#{}">{}</a>').format(self.anchor, self.text)
