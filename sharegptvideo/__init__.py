"""Video captions, QA and preferences as datasets; an evaluation to trust; SFT and DPO recipes.

>>> from sharegptvideo import load_dataset
>>> load_dataset("captions", data_dir="synthetic")  # doctest: +SKIP

Importing this package also makes `datasets.load_dataset("sharegptvideo", NAME, ...)` work.
"""

from sharegptvideo._shipped import __version__
from sharegptvideo.data.load import list_datasets, load_dataset, read_rows
from sharegptvideo.data.registration import register as _register
from sharegptvideo.data.trl import as_trl

__all__ = ["__version__", "as_trl", "list_datasets", "load_dataset", "read_rows"]

_register()
