"""A GPU's kernel is called as the installed release has it; stand-ins compute what it would."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses, sharing
from tests.model.test_attention import DOCUMENTS, FAMILIES, assert_close, made, with_gradients
from torch import Tensor
from torch.nn.attention import varlen as torchs

from headway.base.documents import DocumentGroup
from headway.model import attention
from headway.model.attention import has_windows
from headway.model.attention_layout import AttentionLayout
from headway.model.forward import Forward
from headway.model.kernels import packed_attention, varlen
from headway.model.kernels.varlen import can_use_varlen, takes_windows

Calls = list[dict[str, Any]]


def computed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Tensor,
    keys: Tensor,
    longest: tuple[int, int],
    scale: float | None,
    window: int,
) -> Tensor:
    """Document by document; the last keys are the queries' own. No head is repeated here."""
    assert queries.dtype == keys.dtype == torch.int32
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    repeats, parts = query.shape[1] // key.shape[1], list[Tensor]()
    for i in range(len(queries) - 1):
        q = query[queries[i] : queries[i + 1]].transpose(0, 1)
        k, v = (
            t[keys[i] : keys[i + 1]].transpose(0, 1).repeat_interleave(repeats, 0)
            for t in (key, value)
        )
        assert (q.shape[1], k.shape[1]) <= longest
        back = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
        back = back - torch.arange(k.shape[1])
        hidden = (back < 0) | ((back > window) & (window >= 0))
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(hidden, float("-inf"))
        parts.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


# The signatures as the releases have them, read from their wheels.
def of_2_10(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    return_aux: Any = None,
) -> Tensor:
    assert is_causal
    assert query.shape[1] == key.shape[1]
    return computed(query, key, value, cu_seq_q, cu_seq_k, (max_q, max_k), None, -1)


def of_2_11(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    assert window_size[1] == 0
    assert query.shape[1] == key.shape[1]
    longest = (max_q, max_k)
    return computed(query, key, value, cu_seq_q, cu_seq_k, longest, scale, window_size[0])


def of_2_12(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Tensor:
    assert window_size[1] == 0
    assert enable_gqa or query.shape[1] == key.shape[1]
    assert cu_seq_k is not None
    longest = (max_q, max_k)
    return computed(query, key, value, cu_seq_q, cu_seq_k, longest, scale, window_size[0])


RELEASES: dict[str, Callable[..., Tensor]] = {"2.10": of_2_10, "2.11": of_2_11, "2.12": of_2_12}


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GPU with a release's function; its documents' keys and queries are as on a GPU."""
    monkeypatch.setattr(varlen, "_is_on_capable_gpu", lambda _: True)
    monkeypatch.setattr(torchs, "varlen_attn", RELEASES[request.param])
    return request.param


@pytest.fixture
def num_calls(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """An entry for each call of the kernel."""
    called, real = list[None](), varlen.varlen_attention

    def counted(*given: Any) -> Tensor:
        called.append(None)
        return real(*given)

    monkeypatch.setattr(packed_attention, "varlen_attention", counted)
    return called


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        "llama",
        "llama, heads of their own",
        "mistral, a window",
        "gemma3_text, a window",  # with a scale of its own
    ],
)
def test_b03_what_a_gpus_kernel_is_given_is_each_document_alone(
    kind: str, shared: bool, release: str, num_calls: list[None]
) -> None:
    once, each = sharing(*FAMILIES) if shared else [micro_of(*DOCUMENTS)] * 2
    model = made(kind)
    plain = copy.deepcopy(model)
    forward = Forward(model)
    losses, gradients = with_gradients(model, lambda: forward.losses(once))
    alone, alone_gradients = with_gradients(plain, lambda: padded_losses(plain, each))
    assert_close(losses, alone, "losses")
    for name, gradient in gradients.items():
        assert_close(gradient, alone_gradients[name], name)
    layers = model.config.num_hidden_layers
    without_window = (
        0
        if kind.startswith("mistral")
        else sum(one != "sliding_attention" for one in model.config.layer_types)
        if kind.startswith("gemma")
        else layers
    )
    assert len(num_calls) == (without_window if release == "2.10" else layers)


def test_a_scale_that_the_kernel_does_not_take_is_in_the_queries(
    release: str,
) -> None:
    tensors = [torch.randn(1, 2, 6, 4) for _ in range(3)]
    layout = AttentionLayout((DocumentGroup(6),))

    def out(scaling: float | None) -> Tensor:
        return attention.attend(torch.nn.Module(), *tensors, None, scaling, documents=layout)[0]

    torch.testing.assert_close(out(None), out(0.5))  # 1/sqrt(4)
    q, k, v = (t[0] for t in tensors)
    scores = (q @ k.transpose(1, 2) * 0.3).masked_fill(~torch.ones(6, 6).tril().bool(), -1e9)
    torch.testing.assert_close(out(0.3)[0], (scores.softmax(-1) @ v).transpose(0, 1))


def test_a_window_is_left_to_another_kernel_only_where_it_hides_something(release: str) -> None:
    query, layout = torch.ones(1, 1, 6, 8), AttentionLayout((DocumentGroup(6),))
    assert takes_windows() is (release != "2.10")
    assert can_use_varlen(query, None, layout)
    assert can_use_varlen(query, 6, layout)
    assert can_use_varlen(query, 5, layout) is (release != "2.10")


def test_a_function_that_cannot_be_made_causal_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(varlen, "_is_on_capable_gpu", lambda _: True)
    monkeypatch.setattr(torchs, "varlen_attn", lambda query, key, value: None)
    layout = AttentionLayout((DocumentGroup(6),))
    assert not can_use_varlen(torch.ones(1, 1, 6, 8), None, layout)


def test_the_installed_function_is_one_that_has_a_stand_in() -> None:
    def shape(function: Callable[..., object]) -> list[tuple[Any, ...]]:
        each = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in each]

    assert shape(torchs.varlen_attn) in [shape(one) for one in RELEASES.values()]


@pytest.mark.parametrize(
    ("size", "dtype", "capability", "fits"),
    [
        (64, torch.bfloat16, (8, 0), True),
        (256, torch.float16, (8, 9), True),
        (224, torch.bfloat16, (9, 0), True),
        (224, torch.bfloat16, (8, 9), False),  # too little shared memory for its gradient
        (64, torch.float32, (9, 0), False),
        (264, torch.bfloat16, (9, 0), False),
        (60, torch.bfloat16, (9, 0), False),
        (64, torch.bfloat16, (7, 5), False),
    ],
)
def test_a_kernel_that_is_not_there_is_not_called(
    size: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    fits: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OnGpu:
        is_cuda, device, shape = True, "cuda", (1, 1, 6, size)

        def __init__(self) -> None:
            self.dtype = dtype

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    layout = AttentionLayout((DocumentGroup(6),))
    assert can_use_varlen(OnGpu(), None, layout) is fits  # pyright: ignore[reportArgumentType]
    assert not can_use_varlen(torch.ones(1, 1, 6, 64), None, layout)


@pytest.mark.parametrize(
    ("kind", "windows"),
    [
        ("llama", False),
        ("mistral", True),
        ("qwen2", False),
    ],
)
def test_a_model_with_windows_is_known(kind: str, windows: bool) -> None:
    given = {"sliding_window": 4} if windows else {}
    assert has_windows(causal(kind, **given)) is windows
