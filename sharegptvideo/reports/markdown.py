"""A page as Markdown, with its drawings as SVG files: for readers on a code host."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from sharegptvideo._markdown import markdown_cell
from sharegptvideo.reports.charts import WIDTH, legend
from sharegptvideo.reports.parts import (
    Bar,
    Card,
    Cell,
    Clip,
    Details,
    Figure,
    Grid,
    Legend,
    Name,
    Page,
    Part,
    Score,
    Section,
    Table,
    Tag,
    Value,
    asset,
    cell_text,
)

__all__ = ["figures_of", "page_markdown", "svg_file"]

_PIXELS = 560  # how wide a drawing is shown
_MARGIN = 10.0


def page_markdown(page: Page) -> str:
    """Return the page's contents as Markdown; figures are `figures/FILE.svg` beside it.

    What Markdown has no sign for stays HTML: links within the page, what is folded away.
    """
    parts = [f"# {markdown_cell(page.title)}", markdown_cell(page.lead), *_parts(page.intro)]
    for section in page.sections:
        parts += _section(section, "##")
    if page.footer:
        parts.append(markdown_cell(page.footer))
    text = "\n\n".join(parts) + "\n"
    return text.encode("utf-8", "replace").decode()  # halves of surrogate pairs, as pages have it


def figures_of(page: Page) -> list[Figure]:
    """List the page's figures that name a file, in order."""
    figures: list[Figure] = []

    def walk(body: Part | Sequence[Part]) -> None:
        for part in [body] if isinstance(body, Part) else body:
            match part:
                case Figure():
                    figures.extend([part] if part.file else [])
                case Grid():
                    for item in part.items:
                        walk(item)
                case Section() | Details() | Card():
                    walk(part.body)

    walk(page.intro)
    walk(list(page.sections))
    return figures


def svg_file(figure: Figure) -> str:
    """Return a drawing as a file of its own: with its legend, on paper, in light colours."""
    style = asset("style.css")
    colours = style[style.index(":root {") : style.index("@media")]
    rules = style[style.index("/* Charts */") : style.index("/* Tables */")]
    rules = "\n".join(line for line in rules.splitlines() if not line.startswith("figure"))
    drawings = [str(legend(figure.legend, dots=figure.dots))] if len(figure.legend) > 1 else []
    assert isinstance(figure.picture, Markup), "a drawing, not a photograph"
    drawings.append(str(figure.picture))
    parts, y = [], _MARGIN
    for drawing in drawings:
        high = float(re.search(r'viewBox="0 0 \S+ (\S+)"', drawing)[1])  # type: ignore[index]  # all have one
        place = f'<svg x="{_MARGIN}" y="{y}" width="{WIDTH}" height="{high}"'
        parts.append(drawing.replace("<svg", place, 1))
        y += high + 4
    wide, high = WIDTH + 2 * _MARGIN, y + _MARGIN
    tall = round(_PIXELS * high / wide)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}"'
        f' width="{_PIXELS}" height="{tall}">\n<style>\n{colours}{rules}\n'
        "text { font-family: system-ui, sans-serif; }\n</style>\n"
        f'<rect width="{wide:g}" height="{high:g}" style="fill: var(--paper)"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _section(section: Section, mark: str) -> list[str]:
    anchor = Markup('<a id="{}"></a>\n\n').format(section.anchor) if section.anchor else ""
    return [f"{anchor}{mark} {markdown_cell(section.title)}", *_parts(section.body)]


def _parts(body: Part | Sequence[Part]) -> list[str]:
    lines: list[str] = []
    for part in [body] if isinstance(body, Part) else body:
        match part:
            case Markup():
                lines.append(str(part))
            case str():
                lines.append(markdown_cell(part))
            case Table():
                lines.append(_table(part))
            case Figure():
                alt = markdown_cell(part.title)
                lines.append(f"**{alt}**\n\n![{alt}](figures/{part.file}.svg)")
                lines += [markdown_cell(part.note)] if part.note else []
            case Grid():
                for item in part.items:
                    lines += _parts(item)
            case Details():
                summary = Markup("<summary>{}</summary>").format(part.summary)
                inner = "\n\n".join(_parts(part.body))
                lines.append(f'<details markdown="1">{summary}\n\n{inner}\n\n</details>')
            case Section():
                lines += _section(part, "###")
            case Card():
                lines += [f"**{markdown_cell(part.title)}**", *_parts(part.body)]
            case Clip() | Legend():
                lines.append(_line(part))
            case _:
                raise TypeError(f"no Markdown for {type(part).__name__}")
    return lines


def _line(part: Clip | Legend) -> str:
    """Return a clip as a link to its file, a legend as the names of its series."""
    if isinstance(part, Legend):
        return markdown_cell(", ".join(name for _, name in part.series))
    return f"[{markdown_cell(part.name)}]({part.file})" if part.file else markdown_cell(part.name)


def _table(table: Table) -> str:
    heads = [head.text for head in table.heads]
    lines = [
        _row([markdown_cell(head) or " " for head in heads]),
        _row(["---:" if right else "---" for right in table.numeric]),
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
    ]
    caption = [f"{markdown_cell(table.caption)}\n"] if table.caption else []
    return "\n".join([*caption, *lines])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    match cell:
        case Markup():
            return str(cell).replace("|", "&#124;").replace("\n", " ")
        case Tag():
            return markdown_cell(f"{cell.sign} {cell.text}".strip())
        case Name():
            return markdown_cell(f"{cell.text} {cell.sub}".strip())
        case Value():
            shown = markdown_cell(cell.text)
            return f"**{shown}**" if cell.strong else f"{shown} {markdown_cell(cell.note)}".strip()
        case Score():
            return markdown_cell(f"{cell.text} {cell.note}".strip())
        case Bar() | int() | float() | str() | None:
            return markdown_cell(cell_text(cell))
