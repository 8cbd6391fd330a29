"""What programs use mlnet with: a node's API as Python objects, blocking or not.

It imports mlnet.v1 and, for clients without a node, client and all below it. Begin with
:mod:`mlnet.sdk.async_client`; :mod:`mlnet.sdk.client` is the same for programs without an event loop.
"""
