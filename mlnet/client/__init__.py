"""The client of a task: from the definition to the delivered model.

It imports driver and all below it. Begin with :mod:`mlnet.client.task_client`.
"""
