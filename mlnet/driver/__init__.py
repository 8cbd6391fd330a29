"""What drives a state machine, whoever does it: events in, journal, transcript, commands out.

It imports net, protocol, identity, task and util. Begin with :mod:`mlnet.driver.loop`.
"""
