"""Text between steps, leaving no trace in the run."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headway.base.events import Sampled
from headway.base.pulse import Pulse
from headway.data.examples import tokenizer
from headway.model.attention import current_implementation, use_implementation
from headway.model.forward import Forward
from headway.runs.plan import Plan


@contextmanager
def undisturbed(model: nn.Module, attention: str) -> Generator[None]:
    """Let a model write and leave it as it was: mode, attention, every random state.

    Args:
        model: a transformers causal model.
        attention: an implementation that knows a cache: the one it was loaded with.
    """
    was_training, before = model.training, current_implementation(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model.eval()
        use_implementation(model, attention)
        try:
            yield
        finally:
            use_implementation(model, before)
            model.train(was_training)


def samples(forward: Forward, plan: Plan, global_step: int, pulse: Pulse) -> Iterator[Sampled]:
    """What the plan wants to see between two steps: each prompt, continued."""
    words = tokenizer.load(Path(plan.data.store))
    for prompt in plan.looks.sample_prompts or ("",):
        ids = words.encode([prompt])[0].tolist() if prompt else [words.end_id]
        with undisturbed(forward.model, forward.original_attention):
            written = list(
                generate(
                    forward.model,
                    ids,
                    num_tokens=plan.looks.sample_tokens,
                    end_ids=words.end_ids,
                    seed=plan.seed + global_step,
                    tick=pulse.beat,
                )
            )
        yield Sampled(global_step, prompt, words.decode(written))


def generate(
    model: nn.Module,
    prompt: Sequence[int],
    *,
    num_tokens: int,
    end_ids: Sequence[int],
    temperature: float = 0.8,
    top_k: int = 50,
    seed: int = 0,
    limit_s: float = 60.0,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Tokens one by one, inside `undisturbed`.

    Args:
        model: a transformers causal model.
        prompt: at least one token id.
        num_tokens: at most so many.
        end_ids: stop at any of them; it is not given out.
        temperature: 0 takes the likeliest token each time.
        top_k: draw from so many of the likeliest.
        seed: of the draws, which are these tokens' own.
        limit_s: stop after so long, whatever has been written.
        tick: called for each token, to show that it is alive.
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    draws = torch.Generator(device=device).manual_seed(seed)
    cache = DynamicCache(config=model.config)  # pyright: ignore[reportArgumentType]
    context = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
    feed = torch.tensor([list(prompt)[-context + 1 :]], device=device)
    began_s = time.monotonic()
    used = feed.shape[1]
    for _ in range(num_tokens):
        output: Any = model(input_ids=feed, past_key_values=cache, use_cache=True)
        token = pick(output.logits[0, -1].float(), temperature, top_k, draws)
        if token in end_ids or used >= context or time.monotonic() - began_s > limit_s:
            return
        tick()
        yield token
        feed = torch.tensor([[token]], device=device)
        used += 1


def pick(logits_V: Tensor, temperature: float, top_k: int, draws: torch.Generator) -> int:
    """One token id from the logits of one position."""
    if temperature <= 0:
        return int(logits_V.argmax())
    best = torch.topk(logits_V, min(top_k, len(logits_V)))
    chances = torch.softmax(best.values / temperature, dim=-1)
    return int(best.indices[torch.multinomial(chances, 1, generator=draws)])
