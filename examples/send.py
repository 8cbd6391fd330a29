"""Hand a signed message to a node by gRPC: python examples/send.py HOST:PORT ADDRESS.

HOST:PORT is the `--tools` address of a node, ADDRESS that of a peer which it should know.
"""

import sys

import grpc

from mlnet.identity.keys import Identity
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import PeerAddresses, Peers
from mlnet.rpc import mlnet_pb2, mlnet_pb2_grpc
from mlnet.util import clock

tools, address = sys.argv[1:]
peers = Peers((PeerAddresses(address.rpartition("/p2p/")[2], (address,)),))
signed = IdentitySigner(Identity.generate()).sign(peers, sent=clock.wall()).envelope
with grpc.insecure_channel(tools) as channel:
    stub = mlnet_pb2_grpc.MlnetStub(channel)
    receipt = stub.Send(mlnet_pb2.Envelope(yaml=signed.yaml, signature=signed.signature), timeout=5)
    print("passed on" if receipt.accepted else "taken, and not passed on")
