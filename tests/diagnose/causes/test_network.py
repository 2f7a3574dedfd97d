import pytest
from tests.diagnose.built import (
    connection,
    evidence,
    frame,
    locked,
    process,
    receiver,
    runner,
    sleeper,
    texts,
    thread,
)

from headway.diagnose.causes.network import find_network, find_no_answer, find_tracker, peers_of
from headway.diagnose.causes.roles import Spot
from headway.diagnose.diagnosis import Helps, StallCause


@pytest.mark.parametrize(
    ("place", "offline"),
    [
        ("wandb/sdk/mailbox.py", "WANDB_MODE=offline"),
        ("mlflow/store/rest_store.py", "MLFLOW_TRACKING_URI=file:./mlruns"),
        ("comet_ml/connection.py", "COMET_START_MODE=offline"),
        ("neptune/internal/backends.py", "NEPTUNE_MODE=offline"),
        ("clearml/task.py", "CLEARML_OFFLINE_MODE=1"),
        ("tensorboard/summary/writer.py", "--report_to none"),
    ],
)
def test_a_tracker_that_waits_is_named_with_its_offline_mode(place: str, offline: str) -> None:
    for waits in (receiver, locked, sleeper):
        main = waits("recv <std>/socket.py:706", f"log <site>/{place}:12", "on_log train.py:30")
        found = find_tracker(evidence(process(7, main)))
        assert found is not None
        assert (found.cause, found.helps) == (StallCause.TRACKER, Helps.PERSON)
        assert "called from on_log (train.py:30)" in found.finding.have
        assert found.finding.remedies[0].do == offline


def test_a_tracker_that_works_or_waits_beside_is_not_accused() -> None:
    call = "log <site>/wandb/sdk/wandb_run.py:12"
    assert find_tracker(evidence(process(7, runner(call, "on_log train.py:30")))) is None
    assert find_tracker(evidence(process(7, runner(), locked(call)))) is None


def test_a_name_that_is_looked_up() -> None:
    for calls in (
        ("poll@C", "getaddrinfo@C", "socket_getaddrinfo@P", "download hub.py:9"),
        ("getaddrinfo <std>/socket.py:962", "download hub.py:9"),
    ):
        found = find_network(evidence(process(7, thread(*calls, call="poll"))))
        assert found is not None
        assert found.cause is StallCause.NETWORK
        assert "DNS" in found.finding.what
        assert "download (hub.py:9)" in found.finding.have
        assert "cat /etc/resolv.conf" in texts(found)


def test_a_connection_that_nobody_accepts() -> None:
    asks = thread("download hub.py:9", call="connect", descriptor=5)
    found = find_network(evidence(process(7, asks, open_files=(connection("SYN_SENT"),))))
    assert found is not None
    assert "a connection to 10.0.0.7:443" in found.finding.what
    assert "nc -vz -w 5 10.0.0.7 443" in texts(found)
    assert "proxy" in texts(found)


def test_a_connection_that_a_loop_of_events_waits_for() -> None:
    loop = thread("EpollSelector.select <std>/selectors.py:468", "main a.py:1", call="epoll_wait")
    opening = (connection("SYN_SENT", descriptor=9),)
    assert find_network(evidence(process(7, loop, open_files=opening))) is not None
    assert find_network(evidence(process(7, loop, open_files=(connection(),)))) is None


def test_a_server_that_says_nothing() -> None:
    asks = receiver("ask store.py:12")
    found = find_no_answer(evidence(process(7, asks, open_files=(connection(),))))
    assert found is not None
    assert (found.cause, found.pid) == (StallCause.NETWORK, 7)
    assert "an answer from 10.0.0.7:443" in found.finding.what
    assert "ask (store.py:12)" in found.finding.have
    assert find_network(evidence(process(7, asks, open_files=(connection(),)))) is None


def test_work_and_sleep_are_no_network() -> None:
    for main in (runner(), sleeper()):
        assert find_network(evidence(process(7, main))) is None
        assert find_no_answer(evidence(process(7, main))) is None


def test_the_peer_is_that_of_the_descriptor() -> None:
    files = (connection(), connection(descriptor=6, peer="10.0.0.8:80"))
    one = process(7, receiver(frame("f a.py:1")), open_files=files)
    assert peers_of(Spot(one, one.main_thread, one)) == "10.0.0.7:443"
    unknown = process(7, thread("f a.py:1", call="poll"), open_files=files)
    assert peers_of(Spot(unknown, unknown.main_thread, unknown)) == "10.0.0.7:443 or 10.0.0.8:80"
