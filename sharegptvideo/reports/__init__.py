"""The pages that commands write: one set of parts, one template, one style, one kind of chart.

A `Page` is made of sections of paragraphs, tables and figures. It is one HTML file that loads
nothing else and follows the reader's choice of a light or dark screen.
"""

from sharegptvideo.reports.parts import Bar, Cell, Details, Figure, Page, Part, Section, Table

__all__ = ["Bar", "Cell", "Details", "Figure", "Page", "Part", "Section", "Table"]
