"""Datasets: reading them, cutting them into segments, and fetching segments from bucket links.

It imports kernels, task and util. Begin with :mod:`mlnet.data.dataset`.
"""

from mlnet.data.dataset import Dataset, split
from mlnet.data.fetching import fetch, time_limit
from mlnet.data.modelfile import deliver
from mlnet.data.schema import Schema
from mlnet.data.schemes.base import FetchBlob, LinkPolicy
from mlnet.data.segments import SEGMENTS, SegmentFile, read_segment
from mlnet.data.table import Limits, Table

__all__ = [
    "SEGMENTS",
    "Dataset",
    "FetchBlob",
    "Limits",
    "LinkPolicy",
    "Schema",
    "SegmentFile",
    "Table",
    "deliver",
    "fetch",
    "read_segment",
    "split",
    "time_limit",
]
