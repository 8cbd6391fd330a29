"""Helpers that know nothing about mlnet: YAML 1.2, clocks, files, hosts, sockets, subprocesses.

It imports errors only. Each module stands by itself.
"""
