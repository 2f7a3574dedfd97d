"""headway doctor: one answer for people, one for programs, without torch."""

import json
import subprocess
import sys


def test_the_doctor_never_imports_torch() -> None:
    code = (
        "import sys; from headway.cli import run;"
        "run(['doctor', '--json']);"
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, loaded = ran.stdout.splitlines()
    assert loaded == "[]"
    assert json.loads(told)["checks"]
