"""`DIR/index.html`: what a demo did and found, on one page that loads nothing."""

from sharegptvideo.demo.page.writing import write_page

__all__ = ["write_page"]
