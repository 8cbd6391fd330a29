"""A node's identity: its Ed25519 key and peer id, and the signed envelopes that prove who said what.

It imports errors, kernels and util only. Begin with :mod:`mlnet.identity.keys`.
"""
