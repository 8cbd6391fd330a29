"""What all parties compute alike from signed messages: committee, Redis pair, order of segments, rewards.

It imports the wire and the evidence only. Begin with :mod:`mlnet.protocol.decisions.cluster`.
"""
