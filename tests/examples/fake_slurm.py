"""A Slurm of one machine: `srun` starts each task here, `scontrol` writes down what it is asked."""

import os
import sys
from pathlib import Path

SRUN = """
import os, signal, subprocess, sys

words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
num = int(os.environ["SLURM_JOB_NUM_NODES"])
tasks = []
for rank in range(num):
    own = {"SLURM_PROCID": rank, "SLURM_NODEID": rank, "SLURM_LOCALID": 0}
    own |= {"SLURM_STEP_NUM_TASKS": num}
    tasks.append(subprocess.Popen(words, env=os.environ | {k: str(v) for k, v in own.items()}))

def forward(number, _):
    for task in tasks:
        task.send_signal(number)

for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, forward)
print("tasks", *(task.pid for task in tasks), flush=True)
sys.exit(max(code if code >= 0 else 128 - code for code in [task.wait() for task in tasks]))
"""

SCONTROL = """
import os, sys

if sys.argv[1:3] == ["show", "hostnames"]:
    print("\\n".join(["localhost"] * int(os.environ["SLURM_JOB_NUM_NODES"])))
else:
    with open("scontrol.log", "a") as log:
        print(*sys.argv[1:], file=log)
"""


def install(folder: Path, **programs: str) -> None:
    """Programs by name, as Python or, with a line that begins with "#!", whatever it says."""
    folder.mkdir(exist_ok=True)
    for name, code in ({"srun": SRUN, "scontrol": SCONTROL} | programs).items():
        path = folder / name
        path.write_text(code if code.startswith("#!") else f"#!{sys.executable}\n{code}")
        path.chmod(0o755)


def job(folder: Path, nodes: int, **variables: str) -> dict[str, str]:
    """The environment of a batch script, with the programs of a folder first in its path."""
    python = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{folder}:{python}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": f"node[1-{nodes}]",
        "SLURM_CPUS_PER_TASK": "1",
        **variables,
    }
