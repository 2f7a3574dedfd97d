"""Reading ahead: the next file in line is read and tokenized while another one is trained.

What is found goes into the cache, and nowhere else. The file's own plan is made at its turn, by
the same process as ever; it finds the cache, if the file is still the same.
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
from headway.supervise.planner import PlanRequest
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

    def start(self) -> None:
        """Start to read, once; nothing without a file, or before there is a model."""
        if self._has_begun or not self._source or not self._settings.continue_run:
            return
        self._has_begun = True
        with contextlib.suppress(Refusal, OSError):
            live = self._open.enter_context(LiveFolder())
            settings = with_parent_settings(self._settings, self._chosen_anew)
            name = printable(str(self._place / Path(self._source).name))
            request = PlanRequest((self._source,), settings, train=False, name=name)
            (live / "request.json").write_bytes(msgspec.json.encode(request))
            process = ChildProcess(
                "headway.supervise.planner",
                [str(live / "request.json")],
                environment=child_environment(),
                log=live / "planner.err",
                log_stdout=True,
                stdin=subprocess.DEVNULL,
                spawn=self._spawn,
            )
            self._open.callback(process.end)

    def close(self) -> None:
        """End it, if it still reads."""
        self._open.close()
