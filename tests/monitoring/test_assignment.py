import hashlib
import subprocess
import sys

from monitoring.assignment import arm_of

USERS = [f"user-{n}" for n in range(4000)]


def share(experiment: str, users: list[str]) -> float:
    return sum(arm_of(user, experiment, "salt") == "full" for user in users) / len(users)


def test_the_arm_is_the_first_byte_of_the_salted_hash():
    first = hashlib.sha256(b"salt\x1fdemo\x1fann").digest()[0]
    assert arm_of("ann", "demo", "salt") == ("full" if first < 128 else "popular")


def test_users_are_split_in_halves():
    # 4000 users: five standard deviations of a fair coin are 5 * sqrt(1/4/4000) = 0.04.
    assert abs(share("demo", USERS) - 0.5) < 0.04


def test_experiments_split_users_independently():
    full_in_a = [user for user in USERS if arm_of(user, "a", "salt") == "full"]
    assert abs(share("b", full_in_a) - 0.5) < 0.06


def test_another_process_gives_the_same_arms():
    code = (
        "from monitoring.assignment import arm_of;"
        "print([arm_of(f'user-{n}', 'demo', 's') for n in range(50)])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str([arm_of(f"user-{n}", "demo", "s") for n in range(50)])
