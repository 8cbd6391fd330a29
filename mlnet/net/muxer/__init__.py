"""Multiplexed sessions over a secured connection: yamux, in the native thread or in Python.

It imports net's types only. Begin with :mod:`mlnet.net.muxer.base`.
"""
