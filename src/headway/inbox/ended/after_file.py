"""Command after each file: started when a file has ended, and never in the way of the next one."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable

from headway.base.units import seconds
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.inbox_job import InboxJob
from headway.inbox.notices import InboxNotice, NoticeKind
from headway.ui.text_layout import one_line, printable

LIMIT_S = 3600.0  # then it is killed
_MOST_SHOWN = 200  # characters of what it said last


class AfterFile:
    """Runs a command for each file, one after the other.

    The command is a line of the shell. It gets the file, what became of it, its receipt, the model
    and the global step in variables: HEADWAY_FILE, HEADWAY_STATE, HEADWAY_RECEIPT, HEADWAY_MODEL,
    HEADWAY_GLOBAL_STEP.

    Args:
        command: "" for none.
        inbox: whose files they are.
        say: takes what there is to say of one that fails.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        command: str,
        inbox: InboxFolder,
        say: Callable[[InboxNotice], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._inbox = inbox
        self._say = say
        self._clock = clock
        self._jobs: deque[InboxJob] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0
        self._log = inbox.state / "after_file.log"

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing is queued."""
        return self._process is None and not self._jobs

    def add(self, job: InboxJob) -> None:
        """Run it for one more file."""
        if self._command:
            self._jobs.append(job)
            self.look()

    def look(self) -> None:
        """See to the one that runs, and start the next."""
        if self._process:
            code = self._process.poll()
            spent_s = self._clock() - self._began_s
            if code is None and spent_s > LIMIT_S:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                self._fail(f"was killed: it took more than {seconds(LIMIT_S)}")
            elif code is None:
                return
            elif code:
                self._fail(f"exited with code {code}")
            self._process = None
        if self._jobs:
            self._start(self._jobs.popleft())

    def _start(self, job: InboxJob) -> None:
        self._began_s = self._clock()
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", self._command],
                    cwd=self._inbox.path,
                    env=os.environ | self._variables(job),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            self._fail(f"could not be started: {error.strerror or error}")

    def _variables(self, job: InboxJob) -> dict[str, str]:
        file = self._inbox.path / job.place
        steps = job.learned.last_step if job.learned else None
        return {
            "HEADWAY_FILE": str(file),
            "HEADWAY_STATE": job.state.value,
            "HEADWAY_RECEIPT": f"{file}.receipt.json",
            "HEADWAY_MODEL": str(self._inbox.current_model),
            "HEADWAY_GLOBAL_STEP": "" if steps is None else str(steps),
        }

    def _fail(self, what: str) -> None:
        """Report it; the queue continues."""
        said = ""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = f": {one_line(lines[-1])[:_MOST_SHOWN]}" if lines else ""
        except OSError:
            pass
        self._say(InboxNotice(NoticeKind.COMMAND, f"after_file {what}{printable(said)}"))
