"""TasksService: the tasks of which a node is the client, kept and told of to any number of callers.

It imports client and all below it. Begin with :mod:`mlnet.service.tasks.registry`.
"""
