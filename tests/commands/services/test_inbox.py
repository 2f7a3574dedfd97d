"""The words of `headway inbox`: actions, folders, and what each of them refuses."""

import json
from pathlib import Path

import pytest
from tests.inbox.world import World, refused

from headway.base.errors import Cause, Refusal, UsageError
from headway.cli import VERBS
from headway.commands.services.inbox import inbox
from headway.config.command_line import parse


def typed(*words: str) -> int:
    verb = VERBS["inbox"]
    return inbox(parse(words, verb.options, settings=verb.settings))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path) -> World:
    assert runtime
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path)
    for number in range(3):
        made.drop(f"{number}.txt", at_s=number)
    made.run(ends={"2.txt": [refused(3, what="too short", cause=Cause.TOO_LITTLE_DATA)]})
    return made


@pytest.mark.parametrize("words", [[], ["begin"], ["stat"]])
def test_an_action_is_needed(words: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        typed(*words)
    assert all(one.do.startswith("headway inbox ") for one in refusal.value.remedies)
    if words == ["stat"]:
        assert refusal.value.remedies[0].do in ("headway inbox status", "headway inbox start")


@pytest.mark.parametrize("action", ["status", "list", "undo", "pause", "resume", "stop"])
@pytest.mark.parametrize("odd", [["--batch-size", "4"], ["--once"], ["a.yaml"], ["lr=3"]])
def test_only_a_start_takes_settings(world: World, action: str, odd: list[str]) -> None:
    before = world.tree()
    with pytest.raises(UsageError, match=f"inbox {action} takes no settings"):
        typed(action, *odd)
    assert world.tree() == before


def test_two_folders_are_one_too_many(world: World) -> None:
    assert world
    with pytest.raises(UsageError, match="one inbox at a time"):
        typed("status", "a", "b")


def test_the_folder_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (world.inbox.path.parent, world.inbox.path):
        monkeypatch.chdir(place)
        assert typed("status", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["folder"] == str(world.inbox.path)
        assert found["global_step"] == 4


def test_list_shows_every_file(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world
    assert typed("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines[1:]] == [
        ["0.txt", "done"], ["1.txt", "done"], ["2.txt", "failed"]
    ]  # fmt: skip
    assert typed("list", "--json") == 0
    assert [job["number"] for job in json.loads(capsys.readouterr().out)] == [1, 2, 3]


def test_undo_and_retry(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("undo") == 0
    assert capsys.readouterr().out == "undone: 1.txt is in failed/1.txt · global step 2\n"
    assert world.model == ["0.txt\n"]
    assert typed("retry", "2.txt", "inbox") == 0
    assert world.names("") == ["2.txt"]
    with pytest.raises(UsageError, match="retry needs the name"):
        typed("retry")


def test_undo_waits_for_nobody(world: World) -> None:
    world.drop("3.txt")
    world.start()
    world.trainer.is_slow = True
    world.steps(5)
    with pytest.raises(Refusal, match="is being trained") as refusal:
        typed("undo")
    assert refusal.value.code == 75


def test_a_pause_is_kept_until_it_is_ended(world: World) -> None:
    for _ in range(2):
        assert typed("pause") == 0
        assert world.inbox.paused.exists()
    for _ in range(2):
        assert typed("resume") == 0
        assert not world.inbox.paused.exists()


@pytest.mark.parametrize("action", ["undo", "pause", "resume"])
def test_a_folder_that_is_no_inbox_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is not an inbox"):
        typed(action)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_without_a_daemon_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world
    assert typed("stop") == 0
    assert "no daemon is serving" in capsys.readouterr().out


def test_a_unit_is_printed_and_nothing_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--preset", "tiny", "--train-between", "22:00-07:00", "--batch-size", "4")
    assert typed("start", "box", *words, "--print-systemd") == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("ExecStart="))
    _, _, again = line.partition(" -m headway ")
    assert again == (
        f"inbox start {tmp_path}/box --preset=tiny --batch-size=4 --train-between 22:00-07:00"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_is_refused_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--preset", "huge"], ["--preset", "tiny", "--run-name", "x"], ["x.yaml"],
                  ["--preset", "tiny", "--on-duplicate", "maybe"]):  # fmt: skip
        with pytest.raises(UsageError):
            typed("start", *words)
    assert list(tmp_path.iterdir()) == []
