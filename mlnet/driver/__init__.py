"""What drives a state machine, for node and client alike: events in, journal, transcript, commands out.

It imports net, protocol, identity, task and util. Begin with :mod:`mlnet.driver.messenger`.
"""
