"""Equality probes: tests that packing and prefix sharing do not change the loss."""

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from headway.base.documents import DocumentGroup, document_lengths
from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.boundary import describe
from headway.data.batching.batches import MicroTensors
from headway.model import attention
from headway.model.forward import Forward
from headway.model.load import is_out_of_memory

# Nats that losses in fp32 may differ by: computed from the same tokens, and by the same products.
_SAME_TOKENS, _SAME_PRODUCTS = 1e-5, 1e-4


@dataclass(frozen=True)
class PackingTrial:
    """What packing does to a model.

    Attributes:
        leaks: its layers leak state between packed documents, or it does not run packed at all.
        has_custom_logits: its logits are more than a product with the head's weights.
        why: it does not run packed; "" if it does.
    """

    leaks: bool
    has_custom_logits: bool
    why: str = ""


def try_packing(forward: Forward, micro: MicroTensors, *, tolerance: float = 2e-3) -> PackingTrial:
    """Compare the losses of packed documents with their losses alone, on this model, in fp32.

    Alone, documents run through the model's own attention and head, and torch's cross-entropy. A
    layer that carries state along the row (linear attention, convolutions) differs whatever the
    attention function does: such a model must run its documents separately. With fresh weights a
    leak may be too small to show in that comparison, so a second one checks whether a document's
    losses change at all when the document before it changes. A third, with a smaller tolerance,
    checks whether the logits are a product with the head's weights: a cap on logits hardly shows
    while they are small. A model that fails when its documents are packed runs them separately.

    Args:
        forward: a model with our attention in place, computing in fp32; set up as found.
        micro: some documents of the job's own data.
        tolerance: nats; rounding stays far below, a leak far above.

    Raises:
        UsageError: the model sees the tokens that it should predict.
        Exception: it fails even when documents run alone, or memory ran out.
    """
    two = longest_documents(micro)
    model, was_training = forward.model, forward.model.training
    model.eval()
    try:
        with torch.no_grad():
            trial = _compare_packed(forward, two, tolerance)
    finally:
        model.train(was_training)
    forward.use_custom_logits(trial.has_custom_logits)
    forward.run_separately(trial.leaks)
    return trial


def _compare_packed(forward: Forward, two: MicroTensors, tolerance: float) -> PackingTrial:
    if not attention.is_ours(forward.model):
        return _alone(forward, two, "it uses its own attention")
    first = two.documents[0].length
    other_ids_N = two.ids_N.clone()
    other_ids_N[:first] = torch.where(other_ids_N[:first] > 0, other_ids_N[:first] - 1, 1)
    try:
        product = forward.losses(two)
        has_plain_logits = not forward.has_custom_logits
        forward.use_custom_logits()
        packed = forward.losses(two)
        changed = forward.losses(replace(two, ids_N=other_ids_N))
    except Exception as error:  # the model is third-party code
        if is_out_of_memory(error):
            raise
        return _alone(forward, two, describe(error))
    is_product = has_plain_logits and _are_close(product, packed, _SAME_PRODUCTS)
    forward.use_custom_logits(not is_product)
    forward.run_separately()
    alone = forward.losses(two)
    in_second_M = two.trained_at_M >= first
    is_independent = _are_close(packed[in_second_M], changed[in_second_M], _SAME_TOKENS)
    leaks = not (_are_close(packed, alone, tolerance) and is_independent)
    if leaks:
        _refuse_looking_ahead(forward, two, alone)
    return PackingTrial(leaks, not is_product)


def _alone(forward: Forward, two: MicroTensors, why: str) -> PackingTrial:
    """What is left for a model that does not run packed; raises if it does not run at all."""
    forward.run_separately()
    _refuse_looking_ahead(forward, two, forward.losses(two))
    return PackingTrial(leaks=True, has_custom_logits=True, why=why)


def _refuse_looking_ahead(forward: Forward, two: MicroTensors, alone: Tensor) -> None:
    """Check that a token's loss does not depend on later tokens.

    Packed attention is causal by itself; a model's own may not be. An encoder sees the token that
    it is to predict: its loss falls fast, and it cannot write.

    Args:
        forward: runs documents separately.
        two: some documents.
        alone: their losses.

    Raises:
        UsageError: it does.
    """
    other_ids_N = two.ids_N.clone()
    last = other_ids_N[-1]
    other_ids_N[-1] = torch.where(last > 0, last - 1, 1)
    changed = forward.losses(replace(two, ids_N=other_ids_N))
    before_M = two.trained_at_M < len(two.ids_N) - 1
    differ_M = (alone - changed).abs()[before_M] > _SAME_PRODUCTS  # not where either is NaN
    if not bool(differ_M.any()):
        return
    kind = str(getattr(getattr(forward.model, "config", None), "model_type", "this model"))
    raise UsageError(
        f"{kind} sees the tokens that it should predict",
        cause=Cause.MODEL_UNSUPPORTED,
        have="losses that change with a later token, as those of an encoder do",
        need="a causal language model, whose tokens see only the ones before them",
        remedies=(
            Remedy("--model DIR", "a causal model, such as a Llama, Qwen or GPT-2"),
            Remedy("--preset tiny", "train a model from scratch"),
        ),
    )


def _are_close(ours_M: Tensor, theirs_M: Tensor, tolerance: float) -> bool:
    return not len(ours_M) or float((ours_M - theirs_M).abs().max()) <= tolerance


def longest_documents(micro: MicroTensors, num_tokens: int = 0) -> MicroTensors:
    """The longest documents of a micro-batch, as a micro-batch; a single one is split in two.

    Long ones, because with a token or two every attention gives the same result.

    Args:
        micro: documents by length, the longest last.
        num_tokens: maximum in all, but at least two documents are taken.
    """
    lengths = document_lengths(micro.documents)
    num = sum(total <= num_tokens for total in accumulate(reversed(lengths)))
    lengths = lengths[-max(num, 2) :]
    if len(lengths) == 1 and lengths[0] > 1:
        lengths = [lengths[0] // 2, lengths[0] - lengths[0] // 2]
    begin = len(micro.ids_N) - sum(lengths)
    kept = torch.from_numpy(micro.host_trained_at_M >= begin).to(micro.ids_N.device)
    at_M = micro.host_trained_at_M
    return MicroTensors(
        rows_R=micro.rows_R,
        ids_N=micro.ids_N[begin:],
        positions_N=torch.cat([torch.arange(t, device=micro.ids_N.device) for t in lengths]),
        trained_at_M=micro.trained_at_M[kept] - begin,
        targets_M=micro.targets_M[kept],
        documents=tuple(DocumentGroup(length) for length in lengths),
        host_trained_at_M=at_M[at_M >= begin] - begin,
    )


def computes_shared_prefixes(forward: Forward, whole: MicroTensors, shared: MicroTensors) -> bool:
    """Whether rows have the same losses with their common prefix computed once.

    In training mode: a layer with dropout of its own draws differently for each row.

    Args:
        forward: a model with our attention in place, computing in fp32.
        whole: rows with a common prefix, each computed in full.
        shared: the same rows with the prefix computed once.
    """
    was_training = forward.model.training
    forward.model.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=_devices(whole)):
            # The order of targets differs; sorting never moves two losses further apart.
            ours_M, theirs_M = (forward.losses(micro).sort().values for micro in (shared, whole))
    except Exception as error:  # the model is third-party code
        if is_out_of_memory(error):
            raise
        return False
    finally:
        forward.model.train(was_training)
    return _are_close(ours_M, theirs_M, _SAME_PRODUCTS)


def _devices(micro: MicroTensors) -> list[torch.device]:
    return [micro.ids_N.device] if micro.ids_N.is_cuda else []


def mean_loss(forward: Forward, micro: MicroTensors) -> float:
    """The mean loss of a micro-batch in eval mode, in nats per trained token."""
    model, was_training = forward.model, forward.model.training
    model.eval()
    with torch.no_grad():
        loss = float(forward.losses(micro).mean())
    model.train(was_training)
    return loss
