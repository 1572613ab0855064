"""Rows of every config: their sources, how they load, and what is done with a folder of them."""
