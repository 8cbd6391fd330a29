"""Hand a signed message to a node by gRPC: python examples/send.py SOCKET ADDRESS.

SOCKET is api.sock in the data directory of a node, ADDRESS that of a peer which it should know.
"""

import sys

import grpc

from mlnet.identity.keys import Identity
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import PeerAddresses, Peers
from mlnet.util import clock
from mlnet.v1 import peer_pb2, peer_pb2_grpc

socket, address = sys.argv[1:]
peers = Peers((PeerAddresses(address.rpartition("/p2p/")[2], (address,)),))
signed = IdentitySigner(Identity.generate()).sign(peers, sent=clock.wall()).envelope
envelope = peer_pb2.Envelope(yaml=signed.yaml, signature=signed.signature)
with grpc.insecure_channel(f"unix:{socket}") as channel:
    stub = peer_pb2_grpc.PeerServiceStub(channel)
    receipt = stub.Send(peer_pb2.SendRequest(envelope=envelope), timeout=5)
    print("passed on" if receipt.accepted else "taken, and not passed on")
