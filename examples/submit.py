"""Have a model trained by the node that runs here: python examples/submit.py [FILE].

FILE is a task definition. MLNET_NODE names another node: its socket, or HOST:PORT with MLNET_TOKEN.
"""

import sys

import mlnet

with mlnet.Client() as client:
    result = client.train(*sys.argv[1:] or ["client-task-definition.yaml"], waiting_period="30s")
    print(result)
    if result.error is None:
        print(result.download())  # mlnet-TASK/model.safetensors
        print(result.model())  # a torch module
