"""Who is in which arm of the running experiment: a salted hash of the user, nothing stored."""

import hashlib
from typing import Literal

Arm = Literal["full", "popular"]
"""full: the whole line. popular: the same list for everybody, the yardstick of the lift."""


def arm_of(user_id: str, experiment: str, salt: str) -> Arm:
    """The user's arm, half and half; the same on every machine and after every restart.

    Interview: How do you assign users to arms without storing who is where?
        Hash salt, experiment and user, and split the hash range: sticky without a table, and
        another experiment's name reshuffles everybody, so experiments do not inherit each other's
        users. Python's own `hash()` would not do: it is salted anew by every process.
        Trade-off: nobody can be moved by hand, and a changed share moves only the border.
        Shown by: tests/monitoring/test_assignment.py::test_experiments_split_users_independently

    Examples:
        >>> arm_of("ann", "demo", "shortlist") == arm_of("ann", "demo", "shortlist")
        True
    """
    digest = hashlib.sha256(f"{salt}\x1f{experiment}\x1f{user_id}".encode()).digest()
    return "full" if digest[0] < 128 else "popular"
