"""Generated from proto/mlnet/v1 by proto/generate.py; a test derives it again and compares.

``from mlnet.v1 import tasks_pb2, tasks_pb2_grpc``; it imports protobuf and grpc, and nothing of mlnet.
"""
