"""Gain from compiling: one micro-batch, forward and backward, alternating between levels.

    python bench/compiling.py                 26M weights
    python bench/compiling.py --preset base   110M

Three models of one shape in one process, in bf16, with Headway's allocator: uncompiled, with norms
and loss compiled, with whole layers compiled. A turn is the loss, its gradient, and what brings
that to the fp32 weights. The optimizer's part of a step is not in it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import date
from statistics import median
from typing import Any

import numpy as np
import torch
from report import machine, versions
from trials import HERE, THREADS

from headway.base.documents import DocumentGroup
from headway.data.batching.batches import MicroTensors
from headway.model.forward import Forward
from headway.model.kernels.compile_level import CompileLevel
from headway.model.load import from_config
from headway.model.presets import config
from headway.supervise import allocator

TURNS = 15
TOKENS, TEXT, CHAT = 2048, 256, 34  # of a micro-batch, of a row of text, of a chat
VOCABULARY = 8192
ANSWERS = 3  # one in three tokens of a chat is trained


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--write", action="store_true", help="to results/")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    told: dict[str, Any] = {"turns": TURNS, "machine": machine(), "versions": versions()}
    told |= {
        "load before": os.getloadavg(),
        "preset": asked.preset,
        "kinds": dict(measured(asked.preset)),
    }
    told["load after"] = os.getloadavg()
    print(json.dumps(told, indent=1))
    if asked.write:
        path = HERE / "results" / f"{date.today().isoformat()}-compiling-{asked.preset}.json"
        path.write_text(json.dumps(told, indent=1) + "\n")


def measured(preset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each kind of data, seconds of each level."""
    shape = config(preset, VOCABULARY, TEXT, {})
    forwards = {level: _made(shape) for level in CompileLevel}
    first_s = dict[str, float]()
    for level, forward in forwards.items():
        forward.compile(level)
        began_s = time.perf_counter()
        _turn(forward, text())
        first_s[level] = time.perf_counter() - began_s
    for kind, micro in {"text": text(), "chats": chats()}.items():
        seconds: dict[CompileLevel, list[float]] = {level: [] for level in CompileLevel}
        for _ in range(TURNS):
            for level, forward in forwards.items():
                seconds[level].append(_turn(forward, micro))
        plain = seconds[CompileLevel.NOTHING]
        yield (
            kind,
            {
                "times as fast as uncompiled": {
                    level: _ratio(plain, seconds[level]) for level in CompileLevel if level.compiles
                },
                "layers, times as fast as operations": _ratio(
                    seconds[CompileLevel.OPERATIONS], seconds[CompileLevel.LAYERS]
                ),
                "seconds": {level: median(each) for level, each in seconds.items()},
                "first turn, compiling": first_s,
            },
        )


def _ratio(slow_s: list[float], fast_s: list[float]) -> dict[str, Any]:
    """Of the turns side by side: the median, and the middle half."""
    ratios = sorted(slow / fast for slow, fast in zip(slow_s, fast_s, strict=True))
    return {
        "ratio": median(ratios),
        "middle half": [ratios[TURNS // 4], ratios[-1 - TURNS // 4]],
    }


def _made(shape: dict[str, Any]) -> Forward:
    forward = Forward(from_config(shape, 1))
    forward.compute_in(torch.bfloat16)
    forward.release_exact_weights()
    forward.model.train()
    return forward


def _turn(forward: Forward, micro: MicroTensors) -> float:
    began_s = time.perf_counter()
    forward.loss(micro, len(micro.targets_M)).backward()
    forward.collect_gradients()
    took_s = time.perf_counter() - began_s
    for p in forward.weights.parameters():
        p.grad = None
    return took_s


def text() -> MicroTensors:
    """Full rows, every token trained."""
    return _micro(TEXT, 1)


def chats() -> MicroTensors:
    """Short ones, of which a part is trained."""
    return _micro(CHAT, ANSWERS)


def _micro(length: int, every: int) -> MicroTensors:
    num = TOKENS // length
    trained_at_M = torch.arange(num * length)[::every]
    return MicroTensors(
        rows_R=np.arange(num),
        ids_N=torch.randint(VOCABULARY, (num * length,)),
        positions_N=torch.arange(length).repeat(num),
        trained_at_M=trained_at_M,
        targets_M=torch.randint(VOCABULARY, trained_at_M.shape),
        documents=(DocumentGroup(length, num),),
        host_trained_at_M=trained_at_M.numpy(),
    )


if __name__ == "__main__":
    wanted = allocator.environment()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    main()
