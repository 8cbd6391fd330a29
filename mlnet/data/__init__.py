"""Datasets: reading them, cutting them into segments, and fetching segments from bucket links.

It imports kernels, task and util. Begin with :mod:`mlnet.data.dataset`.
"""

from mlnet.data.dataset import Dataset, split
from mlnet.data.fetching import fetch, time_limit
from mlnet.data.modelfile import deliver
from mlnet.data.schema import Schema
from mlnet.data.schemes.base import FetchBlob, LinkPolicy
from mlnet.data.segments import read_segment
from mlnet.data.table import DatasetLimits, Table

__all__ = [
    "Dataset",
    "DatasetLimits",
    "FetchBlob",
    "LinkPolicy",
    "Schema",
    "Table",
    "deliver",
    "fetch",
    "read_segment",
    "split",
    "time_limit",
]
