"""The file formats of datasets, a file each.

A format whose files hold arrays is a module as :mod:`mlnet.data.formats.base` describes it, an entry of
:data:`ARRAYS`, and its name in :data:`mlnet.task.schema.Format`. What is none of these is a CSV, which has
columns with names, categories and dialects, and begins in :mod:`mlnet.data.formats.csv_file`.
They import errors, util and data's table.
"""

from __future__ import annotations

from mlnet.data.formats import idx, npz
from mlnet.data.formats.base import ArrayFormat

ARRAYS: dict[str, ArrayFormat] = {
    "NPZ": npz,
    "MNIST": idx,
}
"""By the name that a task definition has for it."""
