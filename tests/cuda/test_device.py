"""On a GPU: attention, losses, copies, packing, resuming and memory are as on a processor.

Not yet run on a GPU. `make gpu` runs these first, there; everywhere else they run on the CPU.
"""

import copy
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cuda.conftest import on
from tests.helpers import causal, micro_of, padded_losses, sharing, text_store
from torch import Tensor

from headway.base.documents import DocumentGroup, RowSpan
from headway.base.pulse import Pulse
from headway.data.batching.batches import Batch, make_batch
from headway.data.batching.rows import rows_of
from headway.data.order import StoreOrder
from headway.model.attention import attend
from headway.model.attention_layout import AttentionLayout
from headway.model.forward import Forward
from headway.model.load import is_out_of_memory, trainable
from headway.runs.plan import LearningPlan
from headway.training.optimizer import make_optimizer, moments, restore_moments
from headway.training.step import Stepper
from headway.training.trials.probes import try_packing
from headway.training.weights.checkpoint import Snapshot

pytestmark = pytest.mark.cuda
LEARNING = LearningPlan("adamw", 1e-3, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
PREFIX = (DocumentGroup(40), DocumentGroup(24, 2, RowSpan(0, 40)), DocumentGroup(33))
PLAIN = (DocumentGroup(40), DocumentGroup(24, 2), DocumentGroup(33))


def reference(q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, window: int | None) -> Any:
    """Softmax over what a token may see, in fp32, with one mask for the whole row."""
    num, begin = q.shape[2], 0
    visible = torch.zeros(num, num, dtype=torch.bool)
    for group in (one for one in layout.documents for _ in range(one.count)):
        end, before = begin + group.length, group.prefix.slice if group.prefix else slice(0)
        own = list(range(num))[before] + list(range(begin, end))
        for place, at in enumerate(range(begin, end)):
            seen = own[: len(own) - group.length + place + 1]
            visible[at, seen[-window:] if window else seen] = True
        begin = end
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~visible.to(q.device), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize(
    ("groups", "window"),
    [(PLAIN, None), (PLAIN, 16), (PREFIX, None)],
    ids=["plain", "window", "sharing"],
)
def test_attention_and_its_gradients_are_those_in_fp32(
    device: str,
    dtype: torch.dtype,
    size: int,
    kv_heads: int,
    groups: tuple[DocumentGroup, ...],
    window: int | None,
) -> None:
    num = sum(group.num_tokens for group in groups)
    draws = torch.Generator().manual_seed(0)
    exact = [
        torch.randn(1, heads, num, size, generator=draws).to(device, dtype).float()
        for heads in (4, kv_heads, kv_heads)
    ]
    ours = [t.to(dtype).requires_grad_() for t in exact]
    theirs = [t.requires_grad_() for t in exact]
    layout = AttentionLayout(groups, device)
    out = attend(torch.nn.Module(), *ours, None, documents=layout, sliding_window=window)[0]
    wanted = reference(*theirs, layout, window)
    weights = torch.randn(wanted.shape, generator=draws).to(device)
    (out.float() * weights).sum().backward()
    (wanted * weights).sum().backward()
    for found, right in zip(
        (out, *(t.grad for t in ours)), (wanted, *(t.grad for t in theirs)), strict=True
    ):
        assert found is not None
        assert right is not None
        apart = (found.float() - right).norm() / right.norm()
        assert apart < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_loss_and_its_gradient_are_those_of_transformers_in_fp32(
    device: str, dtype: torch.dtype
) -> None:
    model, micro = causal("llama", scale=1.0), micro_of(40, 24, 24, 33)
    plain = copy.deepcopy(model)
    wanted = padded_losses(plain, micro).mean()
    wanted.backward()
    forward = Forward(model.to(device))
    forward.compute_in(dtype)
    loss = forward.loss(on(micro, device), len(micro.targets_M))
    loss.backward()
    forward.collect_gradients()
    right = float(wanted.detach())
    assert abs(float(loss.detach()) - right) < TOLERANCE[dtype] * right
    ours, theirs = (
        torch.cat([p.grad.flatten().cpu() for p in m.parameters() if p.grad is not None])
        for m in (model, plain)
    )
    assert (ours - theirs).norm() / theirs.norm() < 3 * TOLERANCE[dtype]


def test_copies_are_the_weights_rounded(device: str) -> None:
    model = causal("llama", scale=1.0).to(device)
    forward = Forward(model)
    forward.compute_in(torch.bfloat16)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.37)
    forward.refresh_copies()
    twin = dict(forward.model.named_parameters())
    for name, p in model.named_parameters():
        assert torch.equal(twin[name], p.to(twin[name].dtype)), name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_packing_and_shared_prefixes_change_nothing(device: str, dtype: torch.dtype) -> None:
    model = causal("llama", scale=1.0).to(device)
    forward = Forward(model)
    assert not try_packing(forward, on(micro_of(9, 12), device)).leaks
    forward.compute_in(dtype)
    once, each = (on(one, device) for one in sharing((11, (2, 3, 9)), (5, (1, 9))))
    with torch.no_grad():
        shared, separate = (forward.losses(one).mean() for one in (once, each))
    assert abs(float(shared - separate)) < TOLERANCE[dtype] * float(separate)


def stepper_of(device: str, tmp_path: Path) -> tuple[Stepper, Any]:
    rows = rows_of(text_store(tmp_path, 600), 32)
    model = causal("llama", scale=1.0).to(device)
    forward = Forward(model)
    forward.compute_in(torch.bfloat16)
    parameters = trainable(model)
    stepper = Stepper(
        forward,
        make_optimizer(parameters, LEARNING),
        parameters,
        rate=lambda _: 1e-3,
        max_grad_norm=1.0,
        first=0,
        seed=1,
        pulse=Pulse(None),
    )
    order = StoreOrder(1, rows.num_full, rows.has_short, 0, 4)

    def batch(step: int) -> Batch:
        options = {"leaves": 2, "micro_batch_tokens": 64, "device": device}
        return make_batch(rows, order, step, **options)

    return stepper, batch


@pytest.mark.usefixtures("deterministic")
def test_saved_and_resumed_ends_with_the_same_bits(device: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, batch = stepper_of(device, tmp_path / "a")
    saved: dict[str, Any] = {}
    for step in (1, 2, 3, 4):
        whole.take_step(batch(step))
        if step == 2:
            saved = {
                "weights": copy.deepcopy(whole.forward.weights.state_dict()),
                "moments": {
                    name: t.clone().cpu()
                    for name, t in moments(whole.optimizer, whole.parameters).items()
                },
            }
    again, batch = stepper_of(device, tmp_path / "b")
    again.forward.weights.load_state_dict(saved["weights"])
    again.forward.refresh_copies()
    restore_moments(again.optimizer, again.parameters, saved["moments"], 2)
    for step in (3, 4):
        again.take_step(batch(step))
    for name, p in whole.parameters.items():
        assert torch.equal(p, again.parameters[name]), name


def test_a_save_has_the_state_before_the_update_after_it(device: str) -> None:
    weights = {"w": torch.nn.Parameter(torch.ones(64 << 20 if device == "cuda" else 64).to(device))}
    model = torch.nn.ParameterDict(weights)
    optimizer = make_optimizer(weights, LEARNING)
    snapshot = Snapshot(model, optimizer, weights)
    for _ in range(3):  # memory is used again
        wanted = weights["w"].detach().clone().cpu()
        snapshot.take()
        weights["w"].grad = torch.ones_like(weights["w"])
        optimizer.step()
        snapshot._host.wait()
        assert torch.equal(snapshot._weights["w"], wanted)
        assert not torch.equal(weights["w"].cpu(), wanted)


def test_neither_gradients_nor_update_nor_copies_for_a_save_wait_for_the_gpu(
    gpu: str, tmp_path: Path
) -> None:
    stepper, batch = stepper_of(gpu, tmp_path)
    stepper.take_step(batch(1))  # what is made once may wait
    snapshot = Snapshot(stepper.forward.weights, stepper.optimizer, stepper.parameters)
    snapshot.take()
    now = batch(2)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        share = stepper._gradients(now, lambda: None)
        (gradients,) = share.sums.values()
        stepper._apply(now, gradients, norm=2 * stepper.max_grad_norm)
        snapshot.take()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(share.losses_K).all()


def test_running_out_of_memory_is_known_and_leaves_none_behind(gpu: str) -> None:
    before = torch.cuda.memory_allocated()
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50, dtype=torch.uint8, device=gpu)
    assert is_out_of_memory(raised.value)
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def write_text(folder: Path) -> list[str]:
    (folder / "a.txt").write_text("One two three four five six seven eight nine ten. " * 20_000)
    command = [sys.executable, "-m", "headway", "train", "a.txt", "--preset", "tiny"]
    return [*command, "--max-length", "128", "--batch-size", "32", "--num-train-epochs", "200"]


@pytest.mark.story
def test_a_micro_batch_that_does_not_fit_is_halved(gpu: str, tmp_path: Path) -> None:
    command = [*write_text(tmp_path), "--device", gpu, "--max-steps", "2"]
    share = 200e6 / torch.cuda.get_device_properties(0).total_memory
    limit = f"import torch; torch.cuda.set_per_process_memory_fraction({share})"
    (tmp_path / "sitecustomize.py").write_text(limit)
    command += ["--micro-batch-tokens", "65536", "--batch-size", "1024"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    (run,) = (tmp_path / "runs").iterdir()
    assert "out of memory: micro-batches of" in (run / "events.jsonl").read_text()
    assert json.loads((run / "receipt.json").read_text())["contract"]["verdict"] == "kept"


@pytest.mark.story
def test_a_killed_trainer_leaves_no_memory_on_the_gpu(gpu: str, tmp_path: Path) -> None:
    free, _ = torch.cuda.mem_get_info()
    process = subprocess.Popen([*write_text(tmp_path), "--device", gpu], cwd=tmp_path)
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s and not _has_stepped(tmp_path):
        time.sleep(0.2)
    assert _has_stepped(tmp_path)
    assert torch.cuda.mem_get_info()[0] < free
    process.send_signal(signal.SIGKILL)
    process.wait()
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s and torch.cuda.mem_get_info()[0] < free:
        time.sleep(0.2)
    assert torch.cuda.mem_get_info()[0] >= free


def _has_stepped(folder: Path) -> bool:
    logs = folder.glob("runs/*/events.jsonl")
    return any('"step_done"' in log.read_text() for log in logs)
