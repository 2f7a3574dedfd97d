"""Answers over HTTP: to this machine, and to nobody who comes under another name."""

import http.client
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.inbox.test_show_inbox import STATUS

from headway.base.errors import UsageError
from headway.inbox.folder import InboxFolder
from headway.inbox.monitoring import Heart, metrics, monitored


def test_a_status_in_prometheus_words() -> None:
    lines = metrics(STATUS).splitlines()
    assert 'headway_inbox_files{state="done"} 1' in lines
    assert 'headway_inbox_files{state="failed"} 2' in lines
    assert "headway_inbox_waiting_files 13" in lines
    assert "headway_inbox_global_step 4976" in lines
    assert "headway_inbox_training 1" in lines
    for line in lines:
        assert line.startswith("# ") or len(line.split()) == 2
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {line.split("{")[0].split()[0] for line in lines if line[0] != "#"} == names


def test_what_is_not_known_is_left_out() -> None:
    text = metrics(replace(STATUS, run=None, last_file_s=None, since_s=None, counts={}))
    assert "headway_inbox_loss" not in text
    assert "headway_inbox_files" not in text
    assert "nan" not in text.lower()


@pytest.mark.usefixtures("runtime")
def test_it_answers(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    now = {"s": 0.0}
    heart = Heart(lambda: now["s"])

    with monitored(inbox, 0, heart) as port:
        assert port

        def get(path: str, host: str = "") -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            found = answer.status, answer.read().decode()
            connection.close()
            return found

        assert get("/healthz") == (200, "ok\n")
        assert "headway_inbox_global_step 0" in get("/metrics")[1]
        assert json.loads(get("/progressz")[1])["folder"] == str(inbox.path)
        assert get("/secret")[0] == 404
        assert get("/metrics", "evil.example:80")[0] == 403
        now["s"] = 61.0
        assert get("/healthz") == (503, "stuck\n")
        heart.beat()
        assert get("/healthz")[0] == 200
        with pytest.raises(UsageError, match=f"port {port}"), monitored(inbox, port, heart):
            pass
    with pytest.raises(OSError):
        get("/healthz")


def test_without_a_port_nothing_listens(tmp_path: Path) -> None:
    with monitored(InboxFolder(tmp_path), None, Heart()) as port:
        assert port is None
