"""Servers of planner and trainer: what they are asked for, and when they are ready."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from headway.supervise import warm_start
from headway.supervise.inference import ANSWERS
from headway.supervise.warm_start import NO_WARM_START, WarmStart


class Server:
    """Stands in for a fork server."""

    made: list["Server"] = []  # noqa: RUF012 - emptied by each test

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        also: Sequence[str] = (),
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        assert not arguments
        self.module, self.also, self.environment, self.log = module, also, environment, log
        self.is_ready, self.is_closed, self.is_running = False, False, True
        self.made.append(self)

    @staticmethod
    def is_possible() -> bool:
        return True

    def spawn(self, *_: Any, **__: Any) -> None: ...

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    Server.made.clear()
    monkeypatch.setattr(warm_start, "ForkServer", Server)
    return Server.made


def test_planner_and_trainer_come_from_servers(
    servers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    warm = WarmStart(tmp_path)
    planner, trainer = servers
    assert planner.module == "headway.supervise.planner"
    assert trainer.module == "headway.training.worker"
    assert trainer.also == (ANSWERS,)
    assert "HF_HUB_OFFLINE" not in planner.environment  # it may download
    assert trainer.environment["HF_HUB_OFFLINE"] == "1"
    assert planner.log != trainer.log
    assert (warm.planner, warm.worker) == (planner.spawn, trainer.spawn)
    assert not warm.is_ready
    planner.is_ready = trainer.is_ready = True
    assert warm.is_ready
    assert not warm.is_broken
    trainer.is_running = False
    assert warm.is_broken
    warm.close()
    assert planner.is_closed
    assert trainer.is_closed


def test_without_servers_everything_starts_as_usual(
    servers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "is_possible", lambda: False)
    for warm in (NO_WARM_START, WarmStart(None), WarmStart(tmp_path)):
        assert warm.planner is subprocess.Popen
        assert warm.worker is subprocess.Popen
        assert warm.is_ready  # nobody else imports anything
        assert not warm.is_broken
        warm.close()
    assert servers == []
