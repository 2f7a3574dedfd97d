"""Waits as torch does for a lock file that a killed process has left."""

import os
import sys
import time
from pathlib import Path

package = Path(sys.argv[1]) / "torch" / "utils"
package.mkdir(parents=True)
(package / "__init__.py").touch()
(package.parent / "__init__.py").touch()
(package / "file_baton.py").write_text(
    "import os, time\n\ndef wait(path):\n    while os.path.exists(path):\n        time.sleep(0.1)\n"
)
lock = Path(sys.argv[1]) / "lock"
lock.touch()
sys.path.insert(0, sys.argv[1])
from torch.utils import file_baton  # noqa: E402

assert os, time


def build_extension() -> None:
    print("ready", flush=True)
    file_baton.wait(str(lock))


build_extension()
