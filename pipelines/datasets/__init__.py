"""Public data sets as lists of items: their folder layouts, published preprocessing and splits.

Evaluation uses them; the daemon never does. docs/datasets.md says what to download and what was tested on what.
"""

from pipelines.datasets.item import GOOD, SPLITS, Item, completeness, of_split, shared_groups
from pipelines.datasets.table import DATASETS, DataSet, dataset

__all__ = ["DATASETS", "GOOD", "SPLITS", "DataSet", "Item", "completeness", "dataset", "of_split", "shared_groups"]
