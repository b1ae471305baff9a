"""`shortlist smoke`: a running stack, tried as a user would; embedded, local services or compose.

In: addresses, and nothing of the machine that serves. Out: a verdict for each check.
May be imported by: the command line.
Read: stack, shop, loop, run.
"""
