"""The task definition: its YAML text checked, corrected and turned into frozen structs.

It imports errors and util only. Begin with :mod:`mlnet.task.definition` and :mod:`mlnet.task.schema`.
"""
