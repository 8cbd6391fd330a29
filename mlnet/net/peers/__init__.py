"""What is known about peers, and to whom connections are kept.

It imports net's types and addresses, and the transport. Begin with :mod:`mlnet.net.peers.manager`.
"""
