"""Checks of a folder of data, with a report."""
