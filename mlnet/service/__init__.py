"""The API of a node for its owner and his programs: servers, tokens, errors, and what the services answer.

It imports the node and the client, which know nothing of it; begin with ``serving.py``, which puts it
together.
"""
