"""Submit a task with the plain gRPC stub, and watch it: python examples/stub.py SOCKET FILE.

SOCKET is api.sock in the data directory of a node, FILE a task definition. The node reads its dataset, below
a directory that `start --dataset-root` allows.
"""

import sys
from pathlib import Path

import grpc

from mlnet.v1 import tasks_pb2, tasks_pb2_grpc

socket, file = sys.argv[1:]
with grpc.insecure_channel(f"unix:{socket}") as channel:
    tasks = tasks_pb2_grpc.TasksServiceStub(channel)
    request = tasks_pb2.SubmitRequest(definition=Path(file).read_text(), idempotency_token=file)
    task = tasks.Submit(request).task
    for answer in tasks.Watch(tasks_pb2.WatchRequest(task=task.id)):
        print(answer.event.revision, answer.event.WhichOneof("kind"))
    print(tasks.Get(tasks_pb2.GetRequest(task=task.id)).task.result.held_out_accuracy)
