"""Forward pass: how a micro-batch runs through a model.

`Forward` decides the number format, whether documents run packed or separately, and how much is
compiled: nothing, the fused ops, or whole layers. Training, probes and evaluation all go through
it. What the loss is, is the objective's business (`model/loss.py`). N is the tokens of a
micro-batch, M the trained ones of these, C the model's width, V the vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headway.base.documents import DocumentGroup
from headway.model import attention
from headway.model.attention_layout import AttentionLayout, to_device
from headway.model.frozen_weights import WidenedLayers
from headway.model.kernels.compile_level import CompileLevel
from headway.model.kernels.compiled_layers import CompiledLayers, layers_of
from headway.model.kernels.fused_ops import compile_norms, use_fused_ops
from headway.model.kernels.reproducible import named_if_it_fails
from headway.model.loss import CrossEntropy, Objective
from headway.model.mixed_precision import MixedPrecisionCopies


class PackedMicroBatch(Protocol):
    """What `Forward` needs of a micro-batch; all tensors are on the model's device."""

    @property
    def ids_N(self) -> Tensor: ...  # noqa: D102
    @property
    def positions_N(self) -> Tensor: ...  # noqa: D102
    @property
    def trained_at_M(self) -> Tensor: ...  # noqa: D102
    @property
    def targets_M(self) -> Tensor: ...  # noqa: D102
    @property
    def documents(self) -> Sequence[DocumentGroup]: ...  # noqa: D102
    @property
    def host_trained_at_M(self) -> NDArray[np.int64]: ...  # noqa: D102 - without asking the device


Run = Callable[[Callable[[], Tensor]], Tensor]  # runs what reads the weights


class Forward:
    """How micro-batches run through one model.

    Args:
        weights: a transformers causal model in fp32, with or without adapters. Frozen matrices may
            be in 16 bits; until `compute_in` settles a number format, layers are widened one by one
            and nothing can be trained.
        objective: what the loss is; cross-entropy if not given.
        on_layer: called when a layer has run, forward or backward: a pass may take minutes.
        whole: runs what reads the weights, if they are in shards (`model/sharded.py`).

    Attributes:
        weights: the model that is updated and saved.
        model: the model that computes: `weights` itself, or its twin in a smaller number format.
        original_attention: the attention implementation the model was loaded with.
        runs_separately: each document runs through the model separately. For models whose layers
            let documents in one row see each other regardless of the attention.
        has_custom_logits: the model's logits are more than its last layer times the head.
        compiled: how much of it is compiled.
    """

    def __init__(
        self,
        weights: nn.Module,
        objective: Objective | None = None,
        on_layer: Callable[[], None] | None = None,
        whole: Run | None = None,
    ) -> None:
        if on_layer:
            _call_on_layers(weights, on_layer)
        self.weights = self.model = weights
        self.original_attention = attention.current_implementation(weights)
        self.runs_separately = False
        self.compiled = CompileLevel.NOTHING
        self._objective = objective or CrossEntropy()
        self._whole = whole
        self._copies: MixedPrecisionCopies | None = None
        self._widened = WidenedLayers(weights if whole is None else nn.Module())
        self._attach(weights)

    def _attach(self, model: nn.Module) -> None:
        self.model = model
        if self._whole is None:
            use_fused_ops(model)
        plain: Any = model
        whole: Any = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
        self._head = plain.get_output_embeddings()
        self._layers = getattr(whole, getattr(whole, "base_model_prefix", "") or "model", None)
        self._can_select = "logits_to_keep" in inspect.signature(whole.forward).parameters
        self.has_custom_logits = self._layers is None or type(self._head) is not nn.Linear
        self.run_separately(self.runs_separately)
        self._compiled_layers = CompiledLayers(model)
        self.compile(self.compiled)

    # -- how it computes ---------------------------------------------------------------------

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute in a smaller number format, or in fp32 again.

        Trained weights stay fp32. Frozen ones are rounded; their exact values come back with fp32
        until `release_exact_weights` is called.
        """
        self._widened.end()
        if self._copies:
            self._copies.restore_weights()
        elif dtype == torch.float32:
            self._widened.hold()
            return
        has_custom_logits = self.has_custom_logits
        self._copies = None if dtype == torch.float32 else MixedPrecisionCopies(self.weights, dtype)
        self._attach(self._copies.model if self._copies else self.weights)
        self.has_custom_logits |= has_custom_logits

    def release_exact_weights(self) -> None:
        """Settle for this number format: free the saved rounding error of frozen weights."""
        if self._copies:
            self._copies.release_exact_weights()

    def run_separately(self, enabled: bool = True) -> None:
        """Run documents one by one through the model's own attention, or packed again."""
        self.runs_separately = enabled
        implementation = self.original_attention if enabled else attention.NAME
        attention.use_implementation(self.model, implementation)

    def use_custom_logits(self, enabled: bool = True) -> None:
        """Take logits from the model's own head, or compute them from its last layer again."""
        self.has_custom_logits = enabled

    def compile(self, level: CompileLevel) -> None:
        """Compile as much of the model on its next use, or run it uncompiled again.

        Raises:
            CannotCompileLayersError: the model has no layers to compile.
        """
        self.compiled = level
        compile_norms(self.model, level.compiles)
        self._compiled_layers.compile(level is CompileLevel.LAYERS)

    def refresh_copies(self) -> None:
        """After an update of the weights: round them into the copies that compute."""
        if self._copies:
            self._copies.refresh_copies()

    def collect_gradients(self) -> None:
        """After a backward pass: add its gradients to those of the weights."""
        if self._copies:
            self._copies.collect_gradients()

    def discard_gradients(self) -> None:
        """After an abandoned pass: none of its gradients reach the weights."""
        if self._copies:
            self._copies.discard_gradients()

    # -- a micro-batch -----------------------------------------------------------------------

    def loss(self, micro: PackedMicroBatch, num_trained: int) -> Tensor:
        """A micro-batch's share of the mean loss over `num_trained` targets, differentiable."""
        return self.run(lambda: self._loss(micro, num_trained))

    def examined(self, micro: PackedMicroBatch, num_trained: int) -> AbstractContextManager[None]:
        """Around the loss of a micro-batch and its backward pass; see `named_if_it_fails`."""
        if self._whole:  # not twice: the other workers would wait
            return nullcontext()
        return named_if_it_fails(lambda: self.loss(micro, num_trained).backward())

    def losses(self, micro: PackedMicroBatch) -> Tensor:
        """(M,) fp32 loss of each trained target."""
        return self.run(lambda: self._losses(micro))

    def run(self, compute: Callable[[], Tensor]) -> Tensor:
        """Run something that reads weights, which may be in shards."""
        if self._whole:
            return self._whole(compute)
        with named_if_it_fails(lambda: self._widened.run(compute)):
            return self._widened.run(compute)

    def _loss(self, micro: PackedMicroBatch, num_trained: int) -> Tensor:
        if self.runs_separately or self.has_custom_logits:
            return self._losses(micro).sum() / num_trained
        return self._objective.summed_loss(
            self.hidden_states(micro),
            self._head,
            micro.targets_M,
            1 / num_trained,
            compiled=self.compiled.compiles,
        )

    def _losses(self, micro: PackedMicroBatch) -> Tensor:
        if self.runs_separately or self.has_custom_logits:
            return self._objective.losses_of_logits(self.logits(micro), micro.targets_M)
        return self._objective.losses(self.hidden_states(micro), self._head, micro.targets_M)

    def hidden_states(self, micro: PackedMicroBatch) -> Tensor:
        """(M, C) the head's input at the trained positions; documents run packed."""
        layers: Any = self._layers
        layout = AttentionLayout(micro.documents, micro.ids_N.device)
        output = layers(
            input_ids=micro.ids_N[None],
            position_ids=micro.positions_N[None],
            use_cache=False,
            documents=layout,
        )
        hidden_NC = layout.keep_for_backward(output[0])[0]
        return cast("Tensor", _SelectRows.apply(hidden_NC, micro.trained_at_M))

    def logits(self, micro: PackedMicroBatch) -> Tensor:
        """(M, V) the model's own logits at the trained positions."""
        if self.runs_separately:
            return self._separate_logits(micro)
        layout = AttentionLayout(micro.documents, micro.ids_N.device)
        positions = micro.positions_N[None]
        at_M = micro.trained_at_M
        logits = self._logits_at(micro.ids_N, at_M, position_ids=positions, documents=layout)
        return layout.keep_for_backward(logits)

    def _separate_logits(self, micro: PackedMicroBatch) -> Tensor:
        """(M, V) each document after its shared prefix, one at a time."""
        logits: list[Tensor] = []
        order: list[NDArray[np.int64]] = []
        begin, at_M, device = 0, micro.host_trained_at_M, micro.ids_N.device
        for group in (one for one in micro.documents for _ in range(one.count)):
            end = begin + group.length
            own = np.flatnonzero((at_M >= begin) & (at_M < end))
            if len(own):
                spans = [slice(begin, end)]
                if group.prefix:
                    spans.insert(0, group.prefix.slice)
                ids = torch.cat([micro.ids_N[span] for span in spans])
                at = torch.from_numpy(at_M[own] - end + len(ids))
                logits.append(self._logits_at(ids, to_device(at, device)))
                order.append(own)
            begin = end
        if not order:
            return self._logits_at(micro.ids_N[:1], micro.trained_at_M)
        back = torch.from_numpy(np.concatenate(order).argsort(kind="stable"))
        return torch.cat(logits).index_select(0, to_device(back, device))

    def _logits_at(self, ids: Tensor, at: Tensor, **packed: Any) -> Tensor:
        """(M, V) logits at some positions; a document by itself has the model's own positions."""
        selected = {"logits_to_keep": at} if self._can_select else {}
        output: Any = self.model(input_ids=ids[None], use_cache=False, **selected, **packed)
        return output.logits[0] if self._can_select else output.logits[0].index_select(0, at)


def _call_on_layers(model: nn.Module, on_layer: Callable[[], None]) -> None:
    """Call a function when a layer of a model, or of a copy of it, has run."""

    def after_backward(_: Tensor) -> None:
        on_layer()

    def after_forward(_module: nn.Module, _inputs: object, output: object) -> None:
        on_layer()
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and first.requires_grad:
            first.register_hook(after_backward)

    for layer in layers_of(model):
        layer.register_forward_hook(after_forward)


class _SelectRows(torch.autograd.Function):
    """(M, C) rows of (N, C); gradients of a row selected more than once are summed in fp32.

    The last token of a shared prefix predicts a target for each document after it.
    """

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, at_M: Tensor) -> Tensor:
        ctx.save_for_backward(at_M)
        ctx.shape = hidden_NC.shape
        return hidden_NC.index_select(0, at_M)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_MC: Tensor
    ) -> tuple[Tensor | None, ...]:
        (at_M,) = ctx.saved_tensors
        # On a GPU, adding is faster than finding out whether positions rise.
        if not at_M.is_cuda and bool((at_M.diff() > 0).all()):
            return grad_MC.new_zeros(ctx.shape).index_copy_(0, at_M, grad_MC), None
        sums = grad_MC.new_zeros(ctx.shape, dtype=torch.float32)
        return sums.index_add_(0, at_M, grad_MC.float()).to(grad_MC.dtype), None
