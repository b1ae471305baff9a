"""A step in a process of its own: its memory comes back, its end can be asked for, it leaves no orphan.

    Runner.run("pipelines.refresh", [...])
      └─ python -m pipelines.step_process pipelines.refresh ...   a session of its own
           └─ whatever the step starts: Spark's Java, another Python

The child holds the reading end of a pipe whose writing end only the parent has. The pipe closes when
the parent dies, however it dies, and then the child ends its whole process group.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from features.errors import RecommenderError

GRACE_S = 5.0
"""What a step that is told to end may take before it is killed."""

LINES_KEPT = 40


class StepFailed(RecommenderError):
    """A step ended badly; the message holds the last thing that it said."""


class Stopped(RecommenderError):
    """The runner was told to stop."""


class Runner:
    """Runs steps one at a time; `stop` may be called from a signal handler or another thread."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is added to this process's own."""
        self._environment = {**os.environ, **environment}
        self._child: subprocess.Popen[str] | None = None
        self.stopped = threading.Event()

    def run(self, module: str, arguments: Sequence[str] = (), keep: int | None = None) -> Any:
        """Run `python -m module`; what it says on standard error is passed on as it comes.

        Args:
            module: a step whose last line on standard output is JSON.
            arguments: its command line.
            keep: a file descriptor that the step is to hold open: the lock, which must stay taken
                for as long as the step works, even when this process is killed.

        Returns:
            The step's JSON.

        Raises:
            StepFailed: it ended with something else than 0.
            Stopped: `stop` was called, before or meanwhile.
        """
        if self.stopped.is_set():
            raise Stopped(f"{module} is not started any more")
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, module, *arguments],
            env=self._environment, pass_fds=() if keep is None else (keep,), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        stdin, stdout, stderr = child.stdin, child.stdout, child.stderr
        assert stdin is not None, "asked for as pipes"
        assert stdout is not None, "asked for as pipes"
        assert stderr is not None, "asked for as pipes"
        said: deque[str] = deque(maxlen=LINES_KEPT)
        listener = threading.Thread(target=_pass_on, args=(stderr, said), daemon=True)
        listener.start()
        with stdin, stdout, stderr:
            if self.stopped.is_set():  # between the check above and the start
                self.stop()
            printed = stdout.read()
            ended = child.wait()
            listener.join(GRACE_S)
        self._child = None
        if self.stopped.is_set():
            raise Stopped(f"{module} was stopped")
        if ended:
            why = next((line for line in reversed(said) if line.strip()), "it said nothing")
            raise StepFailed(f"python -m {module} ended with {ended}: {why.strip()[:500]}")
        return json.loads(printed.splitlines()[-1])

    def stop(self) -> None:
        """Start nothing more, and end what runs: first asked, then forced."""
        self.stopped.set()
        child = self._child
        if child is None or child.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        killer = threading.Timer(GRACE_S, _kill_group, [child.pid])
        killer.daemon = True
        killer.start()


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _pass_on(stream: IO[str], said: deque[str]) -> None:
    with suppress(ValueError):  # the pipe was closed by whoever waited for us
        for line in stream:
            said.append(line)
            sys.stderr.write(line)
            sys.stderr.flush()


def _end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """The child's side: run the module that is named, and end when the parent does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
