"""Waits for a program that cannot end: nobody reads what it prints."""

import subprocess
import sys


def prepare() -> None:
    code = "import sys\nwhile True: sys.stdout.write('tokenizing row\\n' * 1000)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    print("ready", flush=True)
    child.wait()


prepare()
