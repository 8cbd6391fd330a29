"""A client's part in its task.

It imports the protocol without the member's part. Begin with :mod:`mlnet.protocol.client.machine`.
"""
