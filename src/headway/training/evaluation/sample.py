"""Samples: text generated between steps, without effect on the training state."""

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
from headway.training.weights.initial_weights import end_ids_of

SAMPLE_S = 60.0  # that a sample may take


@contextmanager
def inference_mode_restored(model: nn.Module, attention: str) -> Generator[None]:
    """Set a model up to generate; afterwards restore its mode, attention and random states.

    Args:
        model: a transformers causal model.
        attention: an implementation that supports a cache: the one it was loaded with.
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


def samples(
    forward: Forward, plan: Plan, global_step: int, pulse: Pulse, limit_s: float = SAMPLE_S
) -> Iterator[Sampled]:
    """A continuation of each of the plan's prompts.

    Args:
        forward: the model.
        plan: has the prompts.
        global_step: that the model is at.
        pulse: beats with each token.
        limit_s: maximum time of each.
    """
    words = tokenizer.load(Path(plan.data.store))
    for prompt in plan.evaluation.sample_prompts or ("",):
        ids = words.prompt_ids(prompt, plan.data.begin_id)
        with inference_mode_restored(forward.model, forward.original_attention):
            tokens = list(
                generate(
                    forward.model,
                    ids,
                    num_tokens=plan.evaluation.sample_tokens,
                    end_ids=[*words.end_ids, *end_ids_of(forward.model)],
                    seed=plan.seed + global_step,
                    limit_s=limit_s,
                    on_token=pulse.beat,
                    run=forward.run,
                )
            )
        yield Sampled(global_step, prompt, words.decode(tokens))


def generate(
    model: nn.Module,
    prompt: Sequence[int],
    *,
    num_tokens: int,
    end_ids: Sequence[int],
    temperature: float = 0.8,
    top_k: int = 50,
    seed: int = 0,
    limit_s: float = SAMPLE_S,
    on_token: Callable[[], None] = lambda: None,
    run: Callable[[Callable[[], Tensor]], Tensor] = lambda compute: compute(),
) -> Iterator[int]:
    """Generate tokens one by one, inside `inference_mode_restored`.

    Args:
        model: a transformers causal model.
        prompt: at least one token id.
        num_tokens: maximum new tokens.
        end_ids: stop at any of these; the end token itself is not yielded.
        temperature: 0 takes the most likely token each time.
        top_k: sample from the K most likely tokens.
        seed: of a random generator of its own.
        limit_s: maximum time.
        on_token: called for each token.
        run: runs the model, whose weights may be in shards.
    """
    from transformers import DynamicCache

    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(seed)
    cache = DynamicCache(config=model.config)  # pyright: ignore[reportArgumentType]
    context = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
    input_ids = torch.tensor([list(prompt)[-context + 1 :]], device=device)
    start_s = time.monotonic()
    used = input_ids.shape[1]
    for _ in range(num_tokens):
        logits_V = run(lambda ids=input_ids: _next_logits(model, ids, cache))
        next_1 = sample_token(logits_V, temperature, top_k, generator)
        token = int(next_1)  # a GPU is read once for each token
        if token in end_ids or used >= context or time.monotonic() - start_s > limit_s:
            return
        on_token()
        yield token
        input_ids = next_1[None]
        used += 1


def _next_logits(model: nn.Module, input_ids: Tensor, cache: object) -> Tensor:
    """(V,) fp32 logits of the token after some."""
    output: Any = model(input_ids=input_ids, past_key_values=cache, use_cache=True)
    return output.logits[0, -1].float()


def sample_token(
    logits_V: Tensor, temperature: float, top_k: int, generator: torch.Generator
) -> Tensor:
    """(1,) one token id, on the device of the logits.

    Args:
        logits_V: (V,) logits of one position.
        temperature: 0 takes the most likely token.
        top_k: sample from the K most likely tokens.
        generator: of the random draw.
    """
    if temperature <= 0:
        return logits_V.argmax().view(1)
    best = torch.topk(logits_V, min(top_k, len(logits_V)))
    probabilities_K = torch.softmax(best.values / temperature, dim=-1)
    return best.indices[torch.multinomial(probabilities_K, 1, generator=generator)]
