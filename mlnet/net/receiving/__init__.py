"""Envelopes on the way in: the gRPC service, the exchange, the inbox.

It imports net's types and peers. Begin with :mod:`mlnet.net.receiving.service`.
"""
