"""``mlnet-node``: the commands, their display, their errors.

It may import everything; nothing imports it. Begin with :mod:`mlnet.cli.app`.
"""
