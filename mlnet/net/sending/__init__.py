"""Outbound envelopes: routed, queued, expired, acknowledged.

It imports net's types, peers and transport. Begin with :mod:`mlnet.net.sending.routing`.
"""
