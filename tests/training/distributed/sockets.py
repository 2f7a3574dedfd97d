"""Sockets between the workers of a tree, for tests in one process."""

import socket
from collections.abc import Callable

from headway.runs.workers import WorkerTree

Sockets = dict[int, dict[int, socket.socket]]
Connect = Callable[[WorkerTree], Sockets]
