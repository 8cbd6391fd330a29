"""The file formats of datasets, one module a format.

They import errors, util and data's table. Begin with :mod:`mlnet.data.formats.csv_file`.
"""
