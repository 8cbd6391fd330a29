"""The protocol: pure state machines of client and member. They know no clock, no dice, no input and output.

It imports identity, kernels, task and util. Begin with :mod:`mlnet.protocol.machine`, then
:mod:`mlnet.protocol.client.machine` and :mod:`mlnet.protocol.member.machine`. A phase of the client and its
counterpart of the member are classes of the same name, such as ``Voting``, one in each of the two packages.
"""
