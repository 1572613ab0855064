"""The pages that commands write: one style, one template.

`write_page` puts sections of paragraphs, tables and figures into one HTML file that loads
nothing else and follows the reader's choice of a light or dark screen.
"""

from sharegptvideo.reports.page_file import page_text, write_page
from sharegptvideo.reports.parts import Bar, Cell, Details, Figure, Part, Section, Table

__all__ = [
    "Bar",
    "Cell",
    "Details",
    "Figure",
    "Part",
    "Section",
    "Table",
    "page_text",
    "write_page",
]
