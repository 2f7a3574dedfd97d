"""Compiled layers: each decoder layer as one graph, compiled once for all of a kind.

A layer's weights are inputs of the graph, so that layers of a class share it; so is the number of
tokens, so that no micro-batch is compiled for again. Attention is one operation in it. A layer that
does not fit into one graph (experts that are chosen by data) is an error, never half compiled.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn


class CannotCompileLayersError(Exception):
    """A model has no layers that could be compiled."""


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a model: the outermost list, since the experts of a layer may be in one too."""
    return list(next((m for m in model.modules() if isinstance(m, nn.ModuleList)), ()))


class CompiledLayers:
    """The layers of a model, compiled or as they were.

    Args:
        model: a transformers model, with or without adapters.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = layers_of(model)
        self._kinds: dict[type[nn.Module], _CompiledKind] = {}

    def compile(self, enabled: bool) -> None:
        """Compile layers on their next use, or run them uncompiled again.

        Raises:
            CannotCompileLayersError: it has none, or they have been changed by somebody else.
        """
        for layer in self._layers:
            if isinstance(getattr(layer.__dict__.get("forward"), "__func__", None), _CompiledKind):
                del layer.forward
        if not enabled:
            return
        if not self._layers:
            raise CannotCompileLayersError("this model has no list of layers")
        for layer in self._layers:
            kind = type(layer)
            if "forward" in layer.__dict__:
                raise CannotCompileLayersError(f"{kind.__name__} has a forward of its own")
            if kind not in self._kinds:
                self._kinds[kind] = _CompiledKind(kind)
            # Bound, so that a deep copy of the module gets its own.
            layer.forward = MethodType(self._kinds[kind], layer)


class _CompiledKind:
    """The forward pass of all layers of a class: compiled where it is trained.

    Without gradients layers run as they are: a probe's loss is the same, compiled or not.
    """

    def __init__(self, kind: type[nn.Module]) -> None:
        self._plain: Callable[..., Any] = kind.forward
        self._recomputes = _recomputes(kind)
        inner = inspect.getattr_static(self._plain, "__wrapped__", None)
        own = _with_own_code(inner if self._recomputes and inner else self._plain)
        self._compiled = torch.compile(own, fullgraph=True, dynamic=False, options=_options())

    def __call__(self, layer: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        # The compiler would make a second graph for a single token.
        if not torch.is_grad_enabled() or hidden.shape[1] < 2:
            return self._plain(layer, hidden, *args, **kwargs)
        if self._recomputes and layer.gradient_checkpointing and layer.training:
            run = partial(self._run, layer, **kwargs)
            return layer._gradient_checkpointing_func(run, hidden, *args)  # noqa: SLF001
        return self._run(layer, hidden, *args, **kwargs)

    def _run(self, layer: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        from torch import _dynamo

        for tensor in _tensors((hidden, args, kwargs)):
            if tensor.ndim > 1 and tensor.shape[1] == hidden.shape[1]:
                _dynamo.mark_dynamic(tensor, 1)  # an error, where a graph is for one length only
        return self._compiled(layer, hidden, *args, **kwargs)


def _recomputes(kind: type[nn.Module]) -> bool:
    """Whether layers of a class recompute themselves, in a wrapper around their own `forward`."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return issubclass(kind, GradientCheckpointingLayer)


def _with_own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a function: what is compiled is kept with the code, and counted for each.

    So a model's graphs are found faster, end with it, and never reach the limit for all models.
    """
    if not isinstance(function, FunctionType):
        return function
    own = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    return own


def _options() -> dict[str, Any]:
    """Kernels are not chosen by timing them where the same bits are wanted each time."""
    from torch._inductor import config

    wanted = torch.are_deterministic_algorithms_enabled() and hasattr(config, "deterministic")
    return {"deterministic": True} if wanted else {}


def _tensors(value: object) -> Iterator[Tensor]:
    """Tensors among arguments, and in tuples and dictionaries of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
