"""Question process: opens a model that is checked, looks at its embeddings, and asks it."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.base.errors import Cause, Finding, Refusal, Remedy
from headway.base.host.child_main import answer_request, run_child
from headway.base.machine import this_machine
from headway.base.pulse import Phase, Pulse
from headway.base.units import plural, size
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.tokenizer import Tokenizer
from headway.export.check.chat_rules import Prompt, chat_findings, chat_prompts
from headway.export.check.folder_facts import ModelFacts, read_folder
from headway.export.check.request import QuestionRequest, QuestionResult
from headway.export.check.rules.fixes import list_folder, train_again
from headway.model.sizes import context_of

_MOST_TOKENS = 200  # of an answer
_CHANCE = 0.05  # of the end token, behind a whole answer
_UNTRAINED = 0.9  # of the entropy of pure chance
_MEMORY_SHARE = 0.8  # of what is free, that a model may take
_OPENS = "it opens with all its weights"
_TOO_LARGE = "the model was not opened: {need} of memory, {free} free"


def question(request: QuestionRequest, pulse: Pulse) -> QuestionResult:
    """Open a model and ask it; whatever stands in the way is a finding."""
    base = read_folder(Path(request.base)) if request.base else None
    facts = read_folder(Path(request.folder), base)
    findings: list[Finding] = []
    tokenizer = _tokenizer(facts, findings)
    if tokenizer:
        findings += chat_findings(facts, tokenizer)
    need, free = 4 * _num_weights(facts), this_machine().memory_free_bytes
    if need > _MEMORY_SHARE * free:
        skipped = (_TOO_LARGE.format(need=size(need), free=size(free)),)
        return QuestionResult(tuple(findings), (), skipped)
    pulse.enter(Phase.LOADING_MODEL)
    try:
        model = _load(facts, request)
    except Refusal as refusal:
        return QuestionResult((*findings, refusal.finding()))
    pulse.enter(Phase.ANSWERING)
    if tokenizer is None:
        return QuestionResult(tuple(findings), (_OPENS,))
    asked = _asked(model, tokenizer, facts, request, pulse)
    return QuestionResult((*findings, *asked.findings), (_OPENS, *asked.checked), asked.skipped)


def _tokenizer(facts: ModelFacts, findings: list[Finding]) -> Tokenizer | None:
    """The folder's tokenizer, or that of its base model; None if there is none."""
    own = facts.path if "tokenizer.json" in facts.names else None
    path = own or (facts.base.path if facts.base else None)
    if path is None:
        return None
    try:
        return tokenizers.load(path)
    except Refusal as refusal:
        findings.append(refusal.finding())
        return None


def _num_weights(facts: ModelFacts) -> int:
    every = [*facts.tensors.values(), *(facts.base.tensors.values() if facts.base else ())]
    return sum(math.prod(one.shape) for one in every)


def _load(facts: ModelFacts, request: QuestionRequest) -> Any:
    """The model in fp32.

    Raises:
        Refusal: it does not open with all its weights, or nobody knows its base model.
    """
    from headway.export.reading.adapters import put_adapters
    from headway.model.load import from_folder

    trusts = request.trust_remote_code
    if not facts.is_adapter:
        return from_folder(facts.path, trust_remote_code=trusts).eval()
    assert facts.base is not None, "adapters without a base model are not asked"
    model = from_folder(facts.base.path, trust_remote_code=trusts)
    return put_adapters(model, facts.path).eval()


def _asked(
    model: Any, tokenizer: Tokenizer, facts: ModelFacts, request: QuestionRequest, pulse: Pulse
) -> QuestionResult:
    """What a loaded model shows."""
    findings, checked, skipped = list[Finding](), list[str](), list[str]()
    prompts = chat_prompts(tokenizer)
    ends = tuple(dict.fromkeys((*request.end_ids, *tokenizer.end_ids)))
    special = {one for p in prompts for one in (*p.ids, p.end_id) if one in tokenizer.special_ids}
    new = _untrained(model, sorted(special | {one for one in ends if prompts}))
    if new:
        findings.append(_never_trained(facts, [tokenizer.token_of(one) or str(one) for one in new]))
    if not prompts:
        return QuestionResult(tuple(findings), (), ("no chat: it has no chat template",))
    if _is_untrained(model, prompts):
        skipped.append("no chat: the model answers by chance")
    elif any(_ends(model, prompt, ends, pulse) for prompt in prompts):
        checked.append("a chat ends")
    else:
        findings.append(_endless(facts, len(prompts)))
    return QuestionResult(tuple(findings), tuple(checked), tuple(skipped))


def _ends(model: Any, prompt: Prompt, ends: Sequence[int], pulse: Pulse) -> bool:
    """Whether an answer ends by itself, or would behind a whole sentence."""
    from headway.model.attention import current_implementation
    from headway.training.evaluation.sample import generate, inference_mode_restored

    if prompt.answered and _chance(model, prompt) >= _CHANCE:
        return True
    context = context_of(model.config.to_dict()) or _MOST_TOKENS + len(prompt.ids) + 1
    num_tokens = min(_MOST_TOKENS, context - len(prompt.ids) - 1)
    if num_tokens < 1:
        return True  # there is no room for an answer
    with inference_mode_restored(model, current_implementation(model)):
        tokens = generate(
            model,
            prompt.ids,
            num_tokens=num_tokens,
            end_ids=ends,
            temperature=0,
            limit_s=3600,
            on_token=pulse.beat,
        )
        return sum(1 for _ in tokens) < num_tokens


def _chance(model: Any, prompt: Prompt) -> float:
    """How likely the model ends a whole answer."""
    import torch

    with torch.inference_mode():
        logits_V = model(input_ids=torch.tensor([list(prompt.answered)])).logits[0, -1].float()
    return float(torch.softmax(logits_V, 0)[prompt.end_id])


def _is_untrained(model: Any, prompts: Sequence[Prompt]) -> bool:
    """Whether the next token is next to pure chance everywhere."""
    import torch

    with torch.inference_mode():
        logits_TV = model(input_ids=torch.tensor([list(prompts[0].ids)])).logits[0].float()
    logs_TV = torch.log_softmax(logits_TV, -1)
    entropy = float(-(logs_TV.exp() * logs_TV).sum(-1).mean())
    return entropy > _UNTRAINED * math.log(logits_TV.shape[-1])


def _untrained(model: Any, ids: Sequence[int]) -> list[int]:
    """Which ids have an embedding that nobody has trained."""
    import torch

    from headway.training.weights.untrained_embeddings import looks_untrained

    weight = model.get_input_embeddings().weight.detach()
    used = torch.tensor([one for one in ids if 0 <= one < len(weight)])
    return used[looks_untrained(weight, used)].tolist() if len(used) else []


def _never_trained(facts: ModelFacts, tokens: Sequence[str]) -> Finding:
    return Finding(
        "refused",
        f"{facts.path}: {plural(len(tokens), 'token')} of the chat template "
        f"{'was' if len(tokens) == 1 else 'were'} never trained",
        have=f"{', '.join(tokens[:5])}: an embedding of zeros, or the mean of all others",
        need="embeddings that were trained, and saved with the model",
        remedies=(train_again(facts, "trains all weights, embeddings among them"),),
        cause=Cause.EMBEDDINGS_UNTRAINED,
    )


def _endless(facts: ModelFacts, num: int) -> Finding:
    return Finding(
        "refused",
        f"{facts.path}: answers never end",
        have=f"{plural(num, 'question')}, {_MOST_TOKENS} tokens each, and no end token, which has "
        f"a chance under {_CHANCE:.0%} behind a whole answer",
        need="an end token that is trained: labels of the padding token hide it if both are one",
        remedies=(
            train_again(facts, "trains the end of every answer"),
            Remedy("headway plan DATA --model DIR", "counts the trained tokens of every row"),
            list_folder(facts),
        ),
        cause=Cause.NEVER_ENDS,
    )


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    return answer_request(
        arguments, QuestionRequest, lambda request, path: question(request, Pulse(path))
    )


if __name__ == "__main__":
    sys.exit(run_child(main))
