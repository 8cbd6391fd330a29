"""The page on which a browser shows a node, its peers and its tasks; itself a caller of the node's API.

It imports sdk, status and v1, and no part of a node. Begin with :mod:`mlnet.dashboard.serving`, which starts
it, then :mod:`mlnet.dashboard.gate`, which says who gets in.
"""
