"""Makes tests/failures/releases/<version>/: a small finished run as this release writes it.

    python tests/failures/make_release.py

Once for each release, at its end; what lies there is never made again.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))


def main() -> None:
    from tests.helpers import plan_of, run, text_store

    from headway.base.events import AttemptStarted, EventLog
    from headway.base.version import __version__
    from headway.runs.folder import RunFolder

    final = HERE / "releases" / __version__ / "notes"
    shutil.rmtree(final, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that no path of this machine is in the files
        records = {"records_read": 4, "records_rejected": {"not JSON": 1}, "records_accepted": 3}
        store = text_store(Path("store"), 300, 40, 70, **records)
        plan = plan_of(store, max_length=16, batch_size=4, learning_rate=3e-3, val_size=2)
        notes = Path("runs", "notes")
        notes.mkdir(parents=True)
        (notes / "rejected.jsonl").write_text(
            '{"file":"notes.txt","line":3,"reason":"not JSON","detail":""}\n'
        )
        EventLog(notes / "events.jsonl", rank=-1).write(
            AttemptStarted("notes", __version__, 1, 0, "")
        )
        ran = run(notes, plan)
        assert ran.code == 0, ran.receipt.line
        for old in RunFolder(notes).checkpoints()[:-1]:
            shutil.rmtree(old.path)
        shutil.copytree(notes, final, symlinks=True)
    size = sum(p.stat().st_size for p in final.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"{final}: {size:,} bytes")
    assert size < 200_000, "a release's fixture stays small"


if __name__ == "__main__":
    main()
