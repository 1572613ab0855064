"""Statistics of a set of captions: length, words, repetition, what it speaks of.

`caption_stats` reads a folder and gives the figures of `stats.json`, which
`sharegptvideo.reports.captions` writes with a page that shows them.
"""

from sharegptvideo.data.stats.workers import StatsSettings, caption_stats

__all__ = ["StatsSettings", "caption_stats"]
