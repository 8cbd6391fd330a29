"""The product's own state machines on one event heap, with virtual time and seeded chance.

Nothing of the protocol is written a second time here. Only what a driver reaches through commands is a model:
the network, the Redis servers, the trainers, the disk. The same seed gives the same trace on every machine.
"""
