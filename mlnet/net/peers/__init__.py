"""What is known about peers, and which of them are kept connected.

It imports net's types and addresses, and the transport. Begin with :mod:`mlnet.net.peers.manager`.
"""
