"""What a set of captions is like: length, words, repetition, what it speaks of.

`study` reads a folder and gives the figures of `stats.json`, which `sharegptvideo.reports.captions`
writes with a page that shows them.
"""

from sharegptvideo.data.stats.workers import Settings, study

__all__ = ["Settings", "study"]
