"""Words: tokenizer, embedding, end tokens and chat template that belong together."""

import json
import re
from collections.abc import Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import count
from headway.export.check.folder_facts import (
    ADAPTER_CONFIG,
    GENERATION,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    ModelFacts,
)
from headway.export.check.rules.fixes import copy_from_base, export_again, list_folder, train_again

# Stands for a picture or a sound, which a model of text alone has no row for.
PLACEHOLDER = re.compile(r"image|audio|video|vision", re.IGNORECASE)
# Tokens that end a turn of a chat, in the families there are.
TURN_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<turn|>"),
    *("<|return|>", "<|user|>", "<|END_OF_TURN_TOKEN|>", "<|end_of_role|>", "<|eot|>"),
)


def words(facts: ModelFacts) -> Iterator[Finding]:
    """What the tokenizer and its neighbors say."""
    if not facts.vocabulary:
        yield from _no_tokenizer(facts)
        return
    yield from _outside_embedding(facts)
    yield from _new_tokens(facts)
    yield from _ends(facts)
    yield from _no_template(facts)


def _no_tokenizer(facts: ModelFacts) -> Iterator[Finding]:
    if facts.is_adapter or any(one.name == TOKENIZER for one in facts.bad):
        return  # it is the base model's, or told already
    yield Finding(
        "refused",
        f"{facts.path} has no tokenizer",
        have=", ".join(sorted(facts.names)[:6]),
        need=TOKENIZER,
        remedies=copy_from_base(facts, TOKENIZER, "that of its base model")
        or (list_folder(facts),),
        cause=Cause.TOKENIZER_NOT_FOUND,
    )


def _outside_embedding(facts: ModelFacts) -> Iterator[Finding]:
    rows = facts.num_embeddings or (facts.base.num_embeddings if facts.base else 0)
    if facts.is_adapter and not facts.num_embeddings:
        return  # new tokens say more
    beyond = {
        token: number
        for token, number in facts.vocabulary.items()
        if rows and number >= rows and not PLACEHOLDER.search(token)
    }
    if beyond:
        token, last = max(beyond.items(), key=lambda item: item[1])
        yield Finding(
            "refused",
            f"the tokenizer in {facts.path} does not fit the embedding",
            have=f"token {token!r} with the id {count(last)}, and {count(rows)} rows",
            need="a row for every id",
            remedies=(
                *copy_from_base(facts, TOKENIZER, "the tokenizer of its base model"),
                train_again(facts, "resizes nothing behind your back"),
            ),
            cause=Cause.TOKEN_OUTSIDE_EMBEDDING,
        )


def _new_tokens(facts: ModelFacts) -> Iterator[Finding]:
    """Tokens that were added, while the adapters have no embedding for them."""
    if not facts.is_adapter or facts.num_embeddings or facts.base is None:
        return
    if any("trainable_tokens" in name or "lora_embedding" in name for name in facts.tensors):
        return
    new = [token for token in facts.added if token not in facts.base.vocabulary]
    rows = facts.base.num_embeddings
    if not facts.base.vocabulary or not new:
        return
    beyond = [token for token in new if rows and facts.added[token] >= rows]
    yield Finding(
        "refused",
        f"the adapter in {facts.path} has new tokens, and no embedding for them",
        have=f"{', '.join(new[:5])}, which {facts.base.path.name} does not have"
        + (f"; {count(len(beyond))} beyond its {count(rows)} rows" if beyond else ""),
        need="their rows, trained and saved: modules_to_save in " + ADAPTER_CONFIG,
        remedies=(
            Remedy('modules_to_save=["embed_tokens", "lm_head"]', "in LoraConfig, then train"),
            Remedy(
                f"headway train DATA --model {facts.base.path}",
                "trains all weights, embeddings among them",
            ),
        ),
        cause=Cause.EMBEDDINGS_UNTRAINED,
    )


def _ends(facts: ModelFacts) -> Iterator[Finding]:
    """End tokens that exist, and are the ones that generation stops at."""
    named = _named_end(facts)
    if named and named not in facts.vocabulary:
        yield _finding(
            facts,
            f"the end token {named!r} is not in the tokenizer",
            f"{TOKENIZER_CONFIG} names it",
            "an end token that the tokenizer has",
        )
        return
    ends = facts.end_ids
    known = set(facts.vocabulary.values())
    outside = [one for one in ends if one not in known]
    if outside:
        yield _finding(
            facts,
            f"generation ends at an id that is no token: {outside[0]}",
            f"eos_token_id {json.dumps(list(ends))}",
            "ids of the tokenizer",
        )
    elif not ends and not facts.is_adapter:
        yield _finding(
            facts,
            "nothing says where an answer ends",
            f"no eos_token_id in {GENERATION} or config.json",
            "every token that ends an answer",
        )
    elif named and ends and facts.vocabulary[named] not in ends:
        shown = ", ".join(facts.token_of(one) or str(one) for one in ends)
        yield _finding(
            facts,
            f"generation does not end at the tokenizer's end token {named!r}",
            f"eos_token_id {json.dumps(list(ends))} ({shown}) in {GENERATION}; {named} is "
            f"{facts.vocabulary[named]}",
            "both in eos_token_id: an answer that ends with the other one goes on",
        )


def _named_end(facts: ModelFacts) -> str:
    found = facts.files[TOKENIZER_CONFIG].get("eos_token")
    found = found.get("content") if isinstance(found, dict) else found
    return found if isinstance(found, str) else ""


def _no_template(facts: ModelFacts) -> Iterator[Finding]:
    """A chat model without its template: every program makes up another one."""
    if facts.template:
        return
    ends = [facts.token_of(one) for one in facts.end_ids] + [_named_end(facts)]
    turn_end = next((one for one in ends if one in TURN_ENDS), "")
    in_base = facts.base is not None and facts.base.template
    if not turn_end and not in_base:
        return  # a base model has none
    why = f"answers end with {turn_end}" if turn_end else "its base model has one"
    yield Finding(
        "refused",
        f"{facts.path} has no chat template",
        have=f"{why}, and there is neither {TEMPLATE} nor a chat_template in {TOKENIZER_CONFIG}",
        need="the template that it was trained with: each program guesses another one",
        remedies=copy_from_base(facts, TEMPLATE, "that of its base model")
        or (Remedy(f"cp BASE/{TEMPLATE} {facts.path}/", "from the model that it was made of"),),
        cause=Cause.TEMPLATE_MISSING,
    )


def _finding(facts: ModelFacts, what: str, have: str, need: str) -> Finding:
    return Finding(
        "refused",
        f"{facts.path}: {what}",
        have=have,
        need=need,
        remedies=(export_again(facts, "writes every end token into its generation config"),),
        cause=Cause.END_TOKEN_MISSING,
    )
