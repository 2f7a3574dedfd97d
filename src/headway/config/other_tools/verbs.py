"""Commands of other tools, and Headway's for the same work."""

from collections.abc import Mapping
from dataclasses import dataclass

from headway.base.errors import Remedy


@dataclass(frozen=True)
class VerbMeaning:
    """What a command of other tools comes to.

    Attributes:
        need: what is needed instead.
        remedies: commands that do it.
    """

    need: str
    remedies: tuple[Remedy, ...]


_TRAIN = VerbMeaning(
    "Headway's name for it",
    (Remedy("headway train DATA --model DIR", "all weights; --lora for adapters"),),
)
_RESUME = VerbMeaning(
    "the command that started the run",
    (
        Remedy("headway train DATA", "the same command resumes its run where it stopped"),
        Remedy("headway train MORE --continue RUN", "trains more data into a finished run"),
    ),
)
_TALK = VerbMeaning(
    "Headway's name for it",
    (
        Remedy("headway chat RUN", "a conversation"),
        Remedy("headway generate RUN --prompt TEXT", "text from a prompt"),
    ),
)
_EXPORT = VerbMeaning(
    "Headway's name for it: adapters are merged, and the result is compared",
    (
        Remedy("headway export RUN --to hf", "a folder for transformers, vLLM and TRL"),
        Remedy("headway export RUN --to gguf", "a file for llama.cpp and Ollama"),
    ),
)
_NOT_TRAINED = VerbMeaning(
    "training by the next token: Headway trains without preferences or rewards",
    (Remedy("headway train DATA --model DIR", "trains the answers"),),
)


def _renamed(verb: str, gives: str) -> VerbMeaning:
    return VerbMeaning("Headway's name for it", (Remedy(f"headway {verb}", gives),))


_BY_MEANING: tuple[tuple[str, VerbMeaning], ...] = (
    (
        """continue continue-training continue_training fit fine-tune fine_tune fine_tunes.create
        fine_tuning.jobs.create finetune_adapter finetune_full finetune_lora ft full
        full_finetune instruct_tune launch learn lora lora_finetune pretrain pt qlora sft train_lora
        tune""",
        _TRAIN,
    ),
    ("go-on resume resume-training resume_training unpause", _RESUME),
    (
        "complete infer inference interact prompt repl run sample serve talk ask api "
        "webchat webui vllm-serve",
        _TALK,
    ),
    (
        """convert_to_hf convert_from_litgpt fuse merge merge-lora merge_lora
        merge-sharded-fsdp-weights push quantize save to_gguf upload""",
        _EXPORT,
    ),
    ("dpo grpo kto orpo ppo reward rlhf rloo rm distill", _NOT_TRAINED),
    ("evaluate benchmark predict perplexity ppl", _renamed("eval RUN DATA", "held-out loss")),
    (
        "dry-run dry_run dryrun inspect preprocess prepare preview tokenize analyze",
        _renamed("plan DATA", "decides everything, trains nothing"),
    ),
    ("config env info diagnostics setup system", _renamed("doctor", "is this machine ready")),
    ("ls list list-runs ps jobs history show", _renamed("runs", "what there is")),
    (
        "kill cancel abort halt interrupt pause quit terminate",
        _renamed("stop RUN", "saves and stops; the same train command resumes"),
    ),
    ("tail watch follow events log", _renamed("logs RUN", "what happened, line by line")),
    ("progress monitor top state", _renamed("status RUN", "what it is doing")),
    ("validate proof fsck", _renamed("verify RUN", "checks a run's folder")),
    ("translate import migrate", _renamed("convert FILE", "another tool's settings in ours")),
    (
        "download pull get-model",
        VerbMeaning(
            "nothing: a model is downloaded when it is first used",
            (Remedy("headway plan DATA --model OWNER/NAME", "downloads it"),),
        ),
    ),
)
VERBS: Mapping[str, VerbMeaning] = {
    name: meaning for names, meaning in _BY_MEANING for name in names.split()
}
