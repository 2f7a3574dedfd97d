"""Warm start: a planner and a trainer that have imported everything before there is a job."""

import subprocess
from pathlib import Path

from headway.base.host.fork_server import ForkServer
from headway.base.process import Spawn
from headway.supervise.attempts.workers import worker_environment
from headway.supervise.child import child_environment
from headway.supervise.inference import ANSWERS


class WarmStart:
    """Servers from which a `Supervisor` gets its planner and its worker within milliseconds.

    They hold what was imported and nothing else: each job begins in the state of a new process.
    Several workers, which need connections of their own, are started as usual. The worker's server
    gives what measures a checkpoint, too.

    Args:
        folder: gets what the servers write to standard error; None: there are no servers.
    """

    def __init__(self, folder: Path | None) -> None:
        self._servers: list[ForkServer] = []
        self.planner: Spawn = subprocess.Popen
        self.worker: Spawn = subprocess.Popen
        if folder is None or not ForkServer.is_possible():
            return
        planner = ForkServer(
            "headway.supervise.planner",
            environment=child_environment(),
            log=folder / "planner-server.err",
        )
        worker = ForkServer(
            "headway.training.worker",
            also=(ANSWERS,),
            environment=worker_environment(),
            log=folder / "trainer-server.err",
        )
        self._servers = [planner, worker]
        self.planner, self.worker = planner.spawn, worker.spawn

    @property
    def is_ready(self) -> bool:
        """Whether a worker need not be waited for."""
        return all(server.is_ready for server in self._servers)

    @property
    def is_broken(self) -> bool:
        """Whether a server has ended, so that what it gave is started as usual from now on."""
        return not all(server.is_running for server in self._servers)

    def close(self) -> None:
        """End the servers, and give their memory back."""
        for server in self._servers:
            server.close()


NO_WARM_START = WarmStart(None)
