"""Publishing of datasets: Parquet shards, cards, and the upload of a repository.

`publish` makes one repository of all configs that a folder has: Parquet that
`datasets.load_dataset(ID, "qa")` reads without this package, a front page with the block that
the Hub reads, a card for each config, and `eval.yaml` for the test sets.
"""

from sharegptvideo.data.publish.facts import templates_folder
from sharegptvideo.data.publish.repository import Published, publish
from sharegptvideo.data.publish.shards import SplitFiles, write_config, write_split

__all__ = ["Published", "SplitFiles", "publish", "templates_folder", "write_config", "write_split"]
