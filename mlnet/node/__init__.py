"""A node: the server that waits for tasks, and what it holds for each.

It imports driver and all below it. Begin with :mod:`mlnet.node.server`, then :mod:`mlnet.node.task`.
"""
