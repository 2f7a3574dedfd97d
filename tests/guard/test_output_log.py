"""output.log: bounded, with its beginning and its end."""

from pathlib import Path

from headway.guard.output_log import OutputLog


def test_a_short_output_is_kept_whole(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "output.log", head=10, tail=10)
    log.add(b"0123")
    assert (tmp_path / "output.log").read_bytes() == b"0123", "it can be read at once"
    log.add(b"456789abcd")
    log.close()
    assert (tmp_path / "output.log").read_bytes() == b"0123456789abcd"
    assert (tmp_path / "output.log").stat().st_mode & 0o777 == 0o600


def test_of_a_long_one_the_middle_is_left_out_and_said(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "output.log", head=10, tail=10)
    whole = b"".join(b"%04d" % number for number in range(1000))
    for at in range(0, len(whole), 7):
        log.add(whole[at : at + 7])
        if at % 70 == 0:
            log.flush()
    log.close()
    text = (tmp_path / "output.log").read_bytes()
    assert text == whole[:10] + b"\n[3,980 bytes left out]\n" + whole[-10:]


def test_one_piece_larger_than_all(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "output.log", head=4, tail=4)
    log.add(b"0123456789abcdef")
    log.close()
    assert (tmp_path / "output.log").read_bytes() == b"0123\n[8 bytes left out]\ncdef"


def test_a_disk_that_fails_is_remembered_and_not_raised(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "missing" / "output.log")
    log.add(b"x")
    log.close()
    assert log.problem is not None
