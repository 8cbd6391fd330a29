"""The product's own state machines on one event heap: virtual time, seeded chance, models around them.

Nothing of the protocol is written a second time here. What is a model is what a driver reaches through
commands: the network, the Redis servers, the trainers, the disk. The same seed gives the same trace anywhere.
"""
