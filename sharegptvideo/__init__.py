"""Video captions, QA and preferences as datasets; an evaluation to trust; SFT and DPO recipes.

>>> from sharegptvideo import load_dataset
>>> load_dataset("captions", source="synthetic")  # doctest: +SKIP

Importing this package also makes `datasets.load_dataset("sharegptvideo", NAME, ...)` work.
"""

from sharegptvideo.loading import list_datasets, load_dataset, read_rows
from sharegptvideo.registration import register as _register
from sharegptvideo.views import as_trl

__version__ = "0.1.0"
__all__ = ["__version__", "as_trl", "list_datasets", "load_dataset", "read_rows"]

_register()
