"""Reading ahead: the next file in line is read and tokenized while another one is trained.

What is found goes into the cache, and nowhere else. The file's own plan is made at its turn, by
the same code as ever; it finds the cache, if the file is still the same. The process that has read
it makes it, too, if it is done by then: it has touched what planning needs.
"""

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headway.base.errors import Refusal
from headway.base.process import ChildProcess, Spawn
from headway.config.settings import Settings
from headway.planning.parent_settings import with_parent_settings
from headway.supervise.child import child_environment
from headway.supervise.live.runtime_folder import LiveFolder
from headway.supervise.planner import PlanRequest, PlanTurn
from headway.ui.text_layout import printable


class ReadAhead:
    """Reads a file for a training that may come. Whatever goes wrong is told when it comes.

    Args:
        source: the file; "" for none.
        place: the folder that it will be trained from.
        settings: of the file that is trained now, which continues a run.
        chosen_anew: settings that the planner chooses again for each file.
        spawn: starts the process.
    """

    def __init__(
        self,
        source: str,
        place: Path,
        settings: Settings,
        chosen_anew: Sequence[str],
        spawn: Spawn = subprocess.Popen,
    ) -> None:
        self._source, self._place = source, place
        self._settings, self._chosen_anew = settings, chosen_anew
        self._spawn = spawn
        self._open = contextlib.ExitStack()
        self._has_begun = False
        self._process: ChildProcess | None = None
        self._read = Path()  # there once it has been read

    def start(self) -> None:
        """Start to read, once; nothing without a file, or before there is a model."""
        if self._has_begun or not self._source or not self._settings.continue_run:
            return
        self._has_begun = True
        with contextlib.suppress(Refusal, OSError):
            live = self._open.enter_context(LiveFolder())
            settings = with_parent_settings(self._settings, self._chosen_anew)
            self._read = live / "read"
            request = PlanRequest(
                (self._source,), settings, train=False, name=printable(self._name)
            )
            (live / "request.json").write_bytes(msgspec.json.encode(request))
            process = ChildProcess(
                "headway.supervise.planner",
                [str(live / "request.json"), "--ahead", str(self._read)],
                environment=child_environment(),
                log=live / "planner.err",
                log_stdout=True,
                stdin=subprocess.PIPE,
                spawn=self._spawn,
            )
            self._open.callback(process.end)
            self._process = process

    def planner_of(self, source: str, request: Path, pulse: Path) -> ChildProcess | None:
        """The process that has read a file, told to plan it; None if there is none.

        Args:
            source: the file, where it is trained from.
            request: the file with the request for its plan.
            pulse: where the process shows what it does from now on.
        """
        process = self._process
        is_ready = process is not None and self._read.exists() and process.is_running
        if process is None or not is_ready or source != self._name:
            return None
        process.send(PlanTurn(str(request), str(pulse)))
        return process

    @property
    def _name(self) -> str:
        """The file's path at its turn."""
        return str(self._place / Path(self._source).name)

    def close(self) -> None:
        """End it, whatever it does."""
        self._open.close()
