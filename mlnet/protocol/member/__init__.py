"""A member's part in one task.

It imports the protocol without the client's part. Begin with :mod:`mlnet.protocol.member.machine`.
"""
