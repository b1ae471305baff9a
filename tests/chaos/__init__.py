"""Faults on the running stack, which pytest does not start: `make compose-chaos`.

client.py    a steady stream of reads and events, and what came back
compose.py   what is killed meanwhile, and what must hold afterwards
"""
