"""Sharded models: each worker of a group holds a part of every weight (`fully_shard`).

All that runs such a model runs inside one module, `Whole`, so that weights outside the layers, the
embedding and the head, are whole while our loss reads them. Between two runs every weight is in
shards: a DTensor, of which `gathered` gives the whole.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from headway.base.errors import Cause, Remedy, UsageError
from headway.model.kernels.compiled_layers import layers_of
from headway.model.kernels.fused_ops import use_fused_ops


class Whole(nn.Module):
    """A model in shards, and the only way to run it.

    Args:
        model: in shards, apart from what is outside its layers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Run the model; all workers of the mesh do, the same number of times.

        Args:
            compute: what reads weights; gradients flow through what it returns.
        """
        return compute()


def shard(
    model: nn.Module,
    mesh: DeviceMesh,
    dtype: torch.dtype,
    read: Callable[[nn.Parameter], Tensor | None] = lambda _: None,
) -> Whole:
    """Cut a model into shards in place, layer by layer: one layer at a time is whole.

    Args:
        model: on the processor, in fp32; weights may be placeholders.
        mesh: (groups, workers of a group): weights are cut over the second and copied over the
            first.
        dtype: the number format that it computes in; weights, sums and moments stay fp32.
        read: gives the weight behind a placeholder; None for what is no placeholder.

    Raises:
        UsageError: the installed torch is too old.
    """
    _check_release()
    low = dtype if dtype != torch.float32 else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32 if low else None)
    whole = Whole(model)
    for part in (*layers_of(model), whole):
        _fill(part, model, read)
        use_fused_ops(part)
        # The last part, too: between two runs nothing is whole.
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in whole.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
            # Which experts have a gradient may differ between workers.
            module.set_reduce_scatter_unused_params(True, recurse=False)
    return whole


def _check_release() -> None:
    """Check that torch sums the gradients of experts that only some workers used.

    Raises:
        UsageError: it would leave them out.
    """
    if hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        return
    raise UsageError(
        "a model in shards needs a newer torch",
        cause=Cause.MISSING_PACKAGE,
        have=f"torch {torch.__version__}",
        need="torch 2.13",
        remedies=(
            Remedy("pip install 'torch>=2.13'"),
            Remedy("--reduction tree", "the whole model in each worker"),
        ),
    )


def is_sharded(parameter: Tensor) -> bool:
    """Whether it is in shards."""
    return isinstance(parameter, DTensor)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this worker holds: all of it if it is not in shards."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor; if it is in shards, all workers ask for it at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, whole: Tensor) -> Tensor:
    """A tensor cut as a parameter is."""
    if not isinstance(parameter, DTensor):
        return whole.to(parameter.device)
    cut = torch.empty_like(parameter)
    local(cut).copy_(whole[_rows_of(parameter)])
    return cut


def _rows_of(parameter: DTensor) -> slice:
    """The rows of a parameter that this worker holds."""
    mesh = parameter.device_mesh
    workers = mesh.size(mesh.ndim - 1)
    each = -(-parameter.shape[0] // workers)
    begin = min(each * mesh.get_local_rank(mesh.ndim - 1), parameter.shape[0])
    return slice(begin, min(begin + each, parameter.shape[0]))


class Gathered(Mapping[str, Tensor]):
    """Whole tensors by name, gathered when they are asked for, one at a time.

    All workers have to ask for the same ones in the same order.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return gathered(self._tensors[name].detach())

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _fill(part: nn.Module, model: nn.Module, read: Callable[[nn.Parameter], Tensor | None]) -> None:
    """Put the weights behind its placeholders into a part of a model; tied ones stay tied."""
    for placeholder in list(part.parameters()):
        found = None if is_sharded(placeholder) else read(placeholder)
        if found is None:
            continue
        weight = nn.Parameter(found, requires_grad=placeholder.requires_grad)
        for module in model.modules():
            for name, own in list(module.named_parameters(recurse=False)):
                if own is placeholder:
                    setattr(module, name, weight)
