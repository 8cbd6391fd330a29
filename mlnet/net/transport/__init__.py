"""The libp2p host in its trio thread: ports, dials, connections, streams.

It imports the muxer and net's types. Begin with :mod:`mlnet.net.transport.host`.
"""
