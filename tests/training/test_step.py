"""A step: the mean over the batch however it is cut, and nothing unsound is applied."""

import copy
import functools
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import causal, chat_store, chats, padded_losses, text_store
from tests.training.dispatched import HostReads, launches
from torch import Tensor

from headway.base.errors import BrokenContract
from headway.base.pulse import Pulse
from headway.data.batching.batches import Batch, make_batch
from headway.data.batching.rows import Rows, rows_of
from headway.data.order import StoreOrder
from headway.model.forward import Forward
from headway.model.load import trainable, with_lora
from headway.runs.plan import LearningPlan
from headway.training import step as module
from headway.training.optimizer import make_optimizer
from headway.training.step import Gradients, StepDropped, Stepper, merge, train_steps

LEARNING = LearningPlan("adamw", 1e-3, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
ROWS = 8


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Eight conversations of quite different lengths, some with little to learn."""
    flags = ["." * (3 * n + 1) + "x" * (1 + n % 3) for n in range(ROWS)]
    return rows_of(chat_store(tmp_path, *flags), 64)


def batch_of(rows: Rows, *, leaves: int = 1, micro: int = 1000, step: int = 1) -> Batch:
    order = StoreOrder(1, rows.num_full, rows.has_short, 0, rows.num_full)
    return make_batch(rows, order, step, leaves=leaves, micro_batch_tokens=micro, device="cpu")


class Recorder(torch.optim.SGD):
    """Keeps the gradients that it is given and changes nothing."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        super().__init__(parameters.values(), lr=0.0)
        self.names = list(parameters)
        self.given: dict[str, Tensor] = {}

    def step(self, closure: Any = None) -> None:
        present = self.param_groups[0]["params"]
        self.given = {
            name: p.grad.clone()
            for name, p in zip(self.names, present, strict=True)
            if p.grad is not None
        }


def stepper(model: Any, optimizer: torch.optim.Optimizer | None = None, **options: Any) -> Stepper:
    parameters = trainable(model)
    return Stepper(
        Forward(model),
        optimizer or make_optimizer(parameters, LEARNING),
        parameters,
        rate=options.pop("rate", lambda _: 1e-3),
        max_grad_norm=options.pop("max_grad_norm", 1e9),
        first=options.pop("first", 100),
        seed=options.pop("seed", 42),
        pulse=Pulse(),
        **options,
    )


def gradients_of(model: Any, batch: Batch) -> dict[str, Tensor]:
    recorder = Recorder(trainable(model))
    stepper(model, recorder).take_step(batch)
    return recorder.given


def bits(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# ---- the mean over the whole batch -------------------------------------------------------------

CUTS = {
    "1 x 8": {"leaves": 1, "micro": 1000},
    "8 x 1": {"leaves": 1, "micro": 1},
    "2 leaves x 4": {"leaves": 2, "micro": 1000},
    "8 leaves": {"leaves": 8, "micro": 1000},
    "2 leaves of pieces": {"leaves": 2, "micro": 20},
}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("cut", CUTS)
def test_b06_however_a_batch_is_cut_the_gradient_is_the_textbooks(
    rows: Rows, cut: str, kind: str
) -> None:
    config = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0} if kind == "gpt2" else {}
    model = causal(kind, scale=2.0, **config)
    plain = copy.deepcopy(model)
    found = gradients_of(model, batch_of(rows, **CUTS[cut]))

    ((whole,),) = batch_of(rows).leaves
    padded_losses(plain, whole).mean().backward()
    for name, p in plain.named_parameters():
        assert float((found[name] - p.grad).abs().max()) <= 1e-5 * max(1, p.grad.abs().max()), name


def test_b06_a_mean_of_means_would_be_noticed(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classical mistake: each micro-batch's mean, then the mean of these."""
    model = causal("llama", scale=2.0)
    right = gradients_of(model, batch_of(rows, micro=1))
    loss = Forward.loss
    monkeypatch.setattr(
        Forward, "loss", lambda self, micro, _: loss(self, micro, ROWS * len(micro.targets_M))
    )
    wrong = gradients_of(model, batch_of(rows, micro=1))
    name = "model.layers.0.mlp.up_proj.weight"
    assert float((wrong[name] - right[name]).abs().max()) > 0.01 * float(right[name].abs().max())


def test_the_loss_told_is_the_mean_over_all_trained_tokens(rows: Rows) -> None:
    model = causal("llama", scale=2.0)
    with torch.no_grad():
        ((whole,),) = batch_of(rows).leaves
        wanted = float(padded_losses(copy.deepcopy(model), whole).mean())
    batch = batch_of(rows, leaves=2, micro=20)
    report = stepper(model).take_step(batch)
    assert report.loss == pytest.approx(wanted, rel=1e-6)
    assert report.trained_tokens == batch.num_trained == rows.num_trained()


# ---- the tree ----------------------------------------------------------------------------------


def leaves_of(num: int, seed: int = 0) -> list[Gradients]:
    """Gradients whose sums round, of two tensors; the second one is missing here and there."""
    draws = torch.Generator().manual_seed(seed)
    return [
        [
            torch.randn(50, generator=draws) * 10**n,
            None if n % 3 == 1 else torch.randn(7, generator=draws),
        ]
        for n in range(num)
    ]


def copied(gradients: Gradients) -> Gradients:
    return [None if g is None else g.clone() for g in gradients]


def summed(leaves: list[Gradients]) -> Gradients:
    tree: list[tuple[int, Gradients]] = []
    for leaf in leaves:
        merge(tree, copied(leaf))
    ((height, total),) = tree
    assert 2**height == len(leaves)
    return total


def pairwise(leaves: list[Gradients]) -> Gradients:
    """The reference: halves, then their sum."""
    if len(leaves) == 1:
        return leaves[0]
    middle = len(leaves) // 2
    halves = pairwise(leaves[:middle]), pairwise(leaves[middle:])
    return [b if a is None else a if b is None else a + b for a, b in zip(*halves, strict=True)]


def equal(one: Gradients, other: Gradients) -> bool:
    return all(
        (a is None) == (b is None) and (a is None or torch.equal(a, b))  # type: ignore[arg-type]
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("num", [1, 2, 4, 8, 16])
def test_the_tree_is_the_pairwise_sum(num: int) -> None:
    leaves = leaves_of(num)
    assert equal(summed(leaves), pairwise(leaves))


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_f53_the_sum_has_the_same_bits_wherever_leaves_are_computed(workers: int) -> None:
    leaves = leaves_of(8)
    share = 8 // workers
    each = [summed(leaves[w * share : (w + 1) * share]) for w in range(workers)]
    assert equal(summed(each), summed(leaves))


def test_f53_a_sum_by_arrival_would_be_noticed() -> None:
    """The bits depend on the pairs, so the tests above can fail."""
    leaves = [leaf[0] for leaf in leaves_of(8)]
    orders = itertools.islice(itertools.permutations(leaves), 0, 5040, 500)
    sums = [functools.reduce(torch.add, order) for order in orders]  # type: ignore[arg-type]
    assert any(not torch.equal(sums[0], other) for other in sums[1:])


def test_at_most_one_sum_per_level_of_the_tree_is_alive() -> None:
    tree: list[tuple[int, Gradients]] = []
    alive: list[weakref.ref[Tensor]] = []
    most = 0
    for _ in range(8):
        leaf: Gradients = [torch.ones(3)]
        alive.append(weakref.ref(leaf[0]))  # type: ignore[arg-type]
        most = max(most, sum(ref() is not None for ref in alive))
        merge(tree, leaf)
        del leaf
    assert most == 4  # log2(8) + 1
    assert torch.equal(tree[0][1][0], torch.full((3,), 8.0))  # type: ignore[arg-type]


# ---- sound or not at all -----------------------------------------------------------------------


def poisoned(value: float, at_leaf: int = 1) -> Callable[..., Tensor]:
    """Losses of which one micro-batch's is wrong."""
    right, seen = Forward.loss, itertools.count()

    def loss(self: Forward, micro: Any, num_trained: int) -> Tensor:
        found = right(self, micro, num_trained)
        return found * value if next(seen) == at_leaf else found

    return loss


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_f30_s02_a_loss_that_is_not_finite_is_never_applied(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    model = causal("llama", scale=1.0)
    one = stepper(model)
    one.take_step(batch_of(rows, leaves=4))
    before, moments = bits(model), copy.deepcopy(one.optimizer.state_dict()["state"])
    monkeypatch.setattr(Forward, "loss", poisoned(value))
    with pytest.raises(BrokenContract) as refused:
        one.take_step(batch_of(rows, leaves=4, step=2))
    assert refused.value.what == "the loss of step 2 is not finite; the step was not applied"
    assert same(bits(model), before)
    after = one.optimizer.state_dict()["state"]
    assert all(torch.equal(after[n][k], moments[n][k]) for n in moments for k in moments[n])
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_f30_s02_a_gradient_that_is_not_finite_is_never_applied(rows: Rows, value: float) -> None:
    model = causal("llama", scale=1.0)
    before = bits(model)
    model.model.norm.weight.register_hook(lambda g: g * value)
    with pytest.raises(BrokenContract, match="the gradient of step 1 is not finite") as refused:
        stepper(model).take_step(batch_of(rows))
    assert "gradient norm" in refused.value.have
    assert same(bits(model), before)


def test_f30_without_the_check_the_weights_would_be_lost(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal("llama", scale=1.0)
    monkeypatch.setattr(Forward, "loss", poisoned(float("nan"), at_leaf=0))
    monkeypatch.setattr(Stepper, "_checked_norm", lambda *_: 1.0)
    stepper(model).take_step(batch_of(rows))
    assert not all(bool(p.isfinite().all()) for p in model.parameters())


def test_f31_a_gradient_of_zero_is_refused(rows: Rows) -> None:
    model = causal("llama", scale=1.0)
    before = bits(model)
    for p in model.parameters():
        p.register_hook(torch.zeros_like)
    with pytest.raises(BrokenContract, match="step 1 has no gradient: it would change nothing"):
        stepper(model).take_step(batch_of(rows))
    assert same(bits(model), before)


def test_f31_no_gradient_at_all_is_refused(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    model = causal("llama", scale=1.0)
    strange = torch.ones((), requires_grad=True)
    monkeypatch.setattr(Forward, "loss", lambda *_: strange * 2)
    with pytest.raises(BrokenContract, match="no gradient"):
        stepper(model).take_step(batch_of(rows))


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_step_that_is_given_up_leaves_the_weights(rows: Rows, at: int) -> None:
    model = causal("llama", scale=1.0)
    before, asked = bits(model), itertools.count()
    one = stepper(model)
    with pytest.raises(StepDropped):
        one.take_step(batch_of(rows, leaves=8), lambda: next(asked) == at)
    assert same(bits(model), before)
    assert all(p.grad is None for p in model.parameters())
    report = one.take_step(batch_of(rows, leaves=8))  # and it can be taken again
    assert report.step == 1
    assert not same(bits(model), before)


# ---- the update --------------------------------------------------------------------------------


def test_the_report_comes_after_the_update(rows: Rows) -> None:
    model = causal("llama", scale=1.0)
    before = bits(model)
    report = stepper(model).take_step(batch_of(rows, step=7))
    assert not same(bits(model), before)
    assert (report.step, report.global_step, report.epoch) == (7, 107, 6)
    assert (report.rows, report.input_tokens) == (ROWS, rows.lengths().sum())
    assert report.computed_tokens == report.input_tokens  # no padding
    assert report.seconds > 0


@pytest.mark.parametrize(("leaves", "micro"), [(1, 1000), (1, 30), (4, 30)])
def test_a_step_reads_two_numbers_however_it_is_cut(rows: Rows, leaves: int, micro: int) -> None:
    taking = stepper(causal("llama"))
    batch = batch_of(rows, leaves=leaves, micro=micro)
    with HostReads() as reads:
        taking.take_step(batch)
    assert sum(map(len, batch.leaves)) > 1 or micro == 1000
    assert reads.found == ["_local_scalar_dense", "tolist"]  # loss and norms, before the update


def test_a_step_that_reads_in_each_micro_batch_would_be_noticed(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Forward.loss

    def read(self: Forward, *args: Any) -> Tensor:
        found = loss(self, *args)
        assert found.item() > 0
        return found

    monkeypatch.setattr(Forward, "loss", read)
    with HostReads() as reads:
        stepper(causal("llama")).take_step(batch_of(rows, micro=30))
    assert len(reads.found) > 3


def launches_of(rows: Rows, layers: int) -> dict[str, int]:
    """The launches of each part of a step but for the model's own: bf16, clipped, four leaves."""
    taking = stepper(causal("llama", num_hidden_layers=layers), max_grad_norm=1e-6)
    taking.forward.compute_in(torch.bfloat16)
    batch = batch_of(rows, leaves=4, micro=30)
    taking.take_step(batch)  # makes the moments
    micro, found = batch.leaves[0][0], dict[str, int]()

    def count(what: str, do: Callable[[], Any]) -> None:
        found[what] = launches(do).total()

    for which in ("first", "further"):
        taking.forward.loss(micro, batch.num_trained).backward()
        count(f"{which} micro-batch", taking.forward.collect_gradients)
    (one, two) = (copied([p.grad for p in taking.parameters.values()]) for _ in range(2))
    count("leaves", lambda: merge([(0, one)], two))
    count("norm", lambda: taking._checked_norm(batch, 1.0, one))
    count("update", lambda: taking._apply(batch, one, 1.0))
    return found


def test_launches_of_sums_and_update_do_not_grow_with_the_number_of_layers(rows: Rows) -> None:
    few = launches_of(rows, 2)
    assert few == launches_of(rows, 8)
    assert max(few.values()) < 8, few


def test_a_gpu_is_waited_for_before_a_step_is_reported(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    taking = stepper(causal("llama"))
    apply = taking._apply
    monkeypatch.setattr(taking, "_apply", lambda *a: (apply(*a), order.append("applied")))
    monkeypatch.setattr(module, "wait_for_device", lambda _: order.append("waited"))
    taking.take_step(batch_of(rows))
    assert order == ["applied", "waited"]


def test_only_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    gpu = torch.device("cuda", 0)
    tensors: Any = [SimpleNamespace(device=one) for one in (torch.device("cpu"), gpu, gpu)]
    module.wait_for_device(tensors)
    assert waited == [gpu]


def test_one_step_is_torchs_own(rows: Rows) -> None:
    """Gradient of the mean, clipped, AdamW: against a plain loop."""
    model = causal("llama", scale=1.0)
    plain = copy.deepcopy(model)
    stepper(model, max_grad_norm=0.5).take_step(batch_of(rows, leaves=2))

    ((whole,),) = batch_of(rows).leaves
    optimizer = make_optimizer(trainable(plain), LEARNING)
    padded_losses(plain, whole).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    assert norm > 0.5
    optimizer.step()
    for name, p in model.named_parameters():
        wanted = dict(plain.named_parameters())[name]
        assert torch.allclose(p, wanted, rtol=1e-4, atol=1e-6), name


def test_gradients_are_scaled_down_never_up(rows: Rows) -> None:
    model = causal("llama", scale=1.0)
    norms: list[float] = []
    for limit in (0.25, 1e9):
        recorder = Recorder(trainable(model))
        report = stepper(model, recorder, max_grad_norm=limit).take_step(batch_of(rows))
        norms.append(float(torch.cat([g.flatten() for g in recorder.given.values()]).norm()))
    assert norms[0] == pytest.approx(0.25, rel=1e-4)
    assert norms[1] == pytest.approx(report.grad_norm, rel=1e-4)  # before clipping


def test_the_rate_of_the_step_is_applied_and_told(rows: Rows) -> None:
    model = causal("llama", scale=1.0)
    one = stepper(model, rate=lambda step: step / 1000)
    for step in (1, 5):
        assert one.take_step(batch_of(rows, step=step)).learning_rate == step / 1000
        assert {g["lr"] for g in one.optimizer.param_groups} == {step / 1000}


def test_f29_a_rate_of_0_moves_nothing(rows: Rows) -> None:
    model = causal("llama", scale=1.0)
    before = bits(model)
    stepper(model, rate=lambda _: 0.0).take_step(batch_of(rows))
    assert same(bits(model), before)


def test_tensors_that_have_seen_no_gradient_are_remembered(rows: Rows) -> None:
    model = causal("llama", scale=1.0)
    model.model.norm.weight.register_hook(torch.zeros_like)
    one = stepper(model)
    assert one.no_gradient_yet == set(trainable(model))
    one.take_step(batch_of(rows))
    assert one.no_gradient_yet == {"model.norm.weight"}


# ---- draws -------------------------------------------------------------------------------------


def with_dropout() -> Any:
    model = causal("llama", scale=1.0)
    adapted: Any = with_lora(
        model, r=2, alpha=4, dropout=0.5, target_modules=("all-linear",), seed=1
    )
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            p.data.add_(0.1)
    return adapted


def test_dropout_depends_on_seed_step_and_leaf_alone(rows: Rows) -> None:
    model = with_dropout()
    first = gradients_of(model, batch_of(rows, leaves=2))
    torch.manual_seed(999)
    torch.rand(17)
    assert same(gradients_of(model, batch_of(rows, leaves=2)), first)


@pytest.mark.parametrize("other", [{"seed": 43}, {"first": 101}])
def test_another_seed_or_step_is_another_draw(rows: Rows, other: dict[str, int]) -> None:
    model = with_dropout()
    recorders = [Recorder(trainable(model)) for _ in range(2)]
    stepper(model, recorders[0]).take_step(batch_of(rows))
    stepper(model, recorders[1], **other).take_step(batch_of(rows))
    assert not same(recorders[0].given, recorders[1].given)


def test_each_leaf_has_its_own_draw() -> None:
    words = [
        module.dropout_seed(seed, step, leaf)
        for seed in range(3)
        for step in range(50)
        for leaf in range(8)
    ]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("seed", [0, 42, 2**40, 2**63 - 1])
def test_any_seed_will_do(rows: Rows, seed: int) -> None:
    assert stepper(with_dropout(), seed=seed).take_step(batch_of(rows)).loss > 0


def test_steps_taken_again_have_the_same_bits(tmp_path: Path) -> None:
    """Going back three steps and taking them once more, dropout and all."""
    rows = rows_of(text_store(tmp_path / "text", 200), 16)
    order = StoreOrder(1, rows.num_full, rows.has_short, 0, 2)

    def take(last: int) -> dict[str, Tensor]:
        model = with_dropout()
        step = stepper(model)
        for number in range(1, last + 1):
            made = make_batch(rows, order, number, leaves=2, micro_batch_tokens=16, device="cpu")
            step.take_step(made)
        return bits(model)

    torch.manual_seed(1)
    first = take(6)
    torch.manual_seed(2)
    assert same(take(6), first)
    assert not same(take(5), first)


def test_the_model_is_in_training_mode_in_a_step(rows: Rows) -> None:
    model = causal("llama", scale=1.0).eval()
    stepper(model).take_step(batch_of(rows))
    assert model.training


def test_the_pulse_beats_with_each_micro_batch(tmp_path: Path) -> None:
    rows = rows_of(chat_store(tmp_path, *chats(8)), 64)
    one = stepper(causal("llama", scale=1.0))
    before = one.pulse._beat
    one.take_step(batch_of(rows, micro=1))
    assert one.pulse._beat - before == 8 + 2  # and where its computing begins and ends


def test_a_step_is_computing_but_for_waits(tmp_path: Path) -> None:
    rows = rows_of(chat_store(tmp_path, *chats(8)), 64)
    one = stepper(causal("llama", scale=1.0))
    one.pulse.count_time()
    one.take_step(batch_of(rows, micro=1))
    assert one.pulse.spent().shares.computing > 0.5


# ---- the loop ----------------------------------------------------------------------------------


def empty_batches(num: int) -> list[Batch]:
    return [Batch(step, 0, np.arange(1), (), 1, 1, 1, 0) for step in range(1, num + 1)]


def test_every_batch_is_a_finished_step_in_order() -> None:
    done: list[int] = []

    def take(batch: Batch) -> Any:
        done.append(batch.step)
        return f"report {batch.step}"

    for batch, report in train_steps(empty_batches(4), take):
        assert done[-1] == batch.step  # its update is in the weights
        assert len(done) == batch.step  # and that of no later one
        assert report == f"report {batch.step}"
    assert done == [1, 2, 3, 4]


def test_a_step_that_fails_is_not_yielded() -> None:
    def take(batch: Batch) -> Any:
        if batch.step == 3:
            raise ZeroDivisionError
        return batch.step

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(batch.step for batch, _ in train_steps(empty_batches(4), take))
    assert seen == [1, 2]


def test_whoever_stops_looking_stops_the_training() -> None:
    done: list[int] = []

    def take(batch: Batch) -> Any:
        done.append(batch.step)
        return None

    for batch, _ in train_steps(empty_batches(4), take):
        if batch.step == 2:
            break
    assert done == [1, 2]
