"""Errors of mlnet as gRPC statuses with details of google.rpc, and back, for both sides of the API.

It imports grpc, protobuf and mlnet.v1, and nothing that a client of the API would not have; begin with
``codes.py``, which says what becomes of each kind of error.
"""
