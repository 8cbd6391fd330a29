"""The messages of the protocol, and their YAML form.

It imports errors, identity, task and util. Begin with :mod:`mlnet.protocol.wire.message_types`.
"""
