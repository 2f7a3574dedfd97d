import subprocess
import sys
from pathlib import Path

from headway.diagnose.evidence.kernel.used_folders import plain, used_folders


def folders_of(pid: int) -> set[Path]:
    return {plain(one) for one in used_folders(Path(f"/proc/{pid}"))}


def test_where_it_works_and_writes_and_what_its_command_names(tmp_path: Path) -> None:
    for name in ("work", "out", "logs", "data"):
        (tmp_path / name).mkdir()
    code = "import sys; log = open(sys.argv[1], 'w'); print('ready', flush=True); input()"
    words = [str(tmp_path / "logs" / "a.log"), f"--output_dir={tmp_path}/out", "../data/x.jsonl"]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words, "https://host/x", "no-path", "src/train.py"],
        cwd=tmp_path / "work",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        found = {one.resolve() for one in folders_of(child.pid)}
    finally:
        child.kill()
        child.communicate()
    assert {tmp_path / name for name in ("work", "out", "logs", "data")} <= found
    assert not any("host" in str(one) or "src" in str(one) for one in found)
    assert used_folders(Path(f"/proc/{child.pid}")) == (), "it is gone"


def test_a_folder_is_shown_as_its_process_sees_it() -> None:
    assert plain(Path("/proc/42/root/tmp/x")) == Path("/tmp/x")
    assert plain(Path("/proc/42/root")) == Path("/")
    assert plain(Path("/runs/a")) == Path("/runs/a")
