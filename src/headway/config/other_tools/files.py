"""Configuration files of other tools: how to tell them apart, and their defaults."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headway.config.other_tools.meaning import (
    Meaning,
    missing,
    needless,
    not_here,
    not_needed,
    renamed,
    words,
    write,
)

TWICE_THE_RANK = "twice the rank"  # a value of lora.lora_alpha that depends on lora.r
_ENOUGH = 3  # keys of one tool that tell a file of its own from ours with a foreign line


@dataclass(frozen=True)
class Tool:
    """A training tool that is configured by a file.

    Attributes:
        name: as it calls itself.
        marks: keys that tell its files from others'; one that ends in a period is a section.
        own: what its names mean where that differs from the common table.
        unsaid: what it does where its file says nothing and Headway would do something else.
        unsaid_lora: the same, when it trains adapters.
    """

    name: str
    marks: frozenset[str]
    own: tuple[Meaning, ...] = ()
    unsaid: Mapping[str, str] = field(default_factory=dict[str, str])
    unsaid_lora: Mapping[str, str] = field(default_factory=dict[str, str])

    def meaning(self, name: str) -> Meaning | None:
        """The tool's own meaning of a name, if it differs from the common one."""
        return next((one for one in self.own if name in one.names.split()), None)


_ADAMW = {"weight_decay": "0", "adam_beta2": "0.999"}
_TRAINER = {
    **_ADAMW,
    "per_device_train_batch_size": "8",
    "num_train_epochs": "3",
    "learning_rate": "5e-5",
    "lr_scheduler_type": "linear",
    "warmup_steps": "0",
}
_FRESH = not_needed(
    "a run of the same name is resumed; --fresh starts over", "overwrite_output_dir"
)
_TRAINS = not_needed("headway train trains", "do_train")
_TEXT_LENGTHS = not_here(
    "headway generate --max-tokens, after training", "max_length", decides=False
)

AXOLOTL = Tool(
    "Axolotl",
    frozenset(
        words(
            """adapter base_model base_model_config dataset_prepared_path datasets
            evals_per_epoch flash_attention gradient_checkpointing lora_model_dir
            lora_target_linear micro_batch_size num_epochs optimizer pad_to_sequence_len
            sample_packing saves_per_epoch sequence_len special_tokens strict train_on_inputs
            val_set_size wandb_project wandb_watch"""
        )
    ),
    own=(_FRESH,),
    unsaid={
        **_ADAMW,
        "per_device_train_batch_size": "1",
        "num_train_epochs": "1",
        "max_length": "512",
        "truncation": "reject",
        "warmup_steps": "0.03",
    },
    unsaid_lora={"lora.r": "8", "lora.lora_alpha": "8", "lora.target_modules": "q_proj,v_proj"},
)
LLAMA_FACTORY = Tool(
    "LLaMA-Factory",
    frozenset(
        words(
            """cutoff_len dataset dataset_dir do_train finetuning_type lora_rank lora_target
            model_name_or_path neat_packing overwrite_cache overwrite_output_dir plot_loss
            preprocessing_num_workers stage template train_on_prompt"""
        )
    ),
    own=(_FRESH, _TEXT_LENGTHS),
    unsaid={**_TRAINER, "max_length": "2048", "lora": "true"},
    unsaid_lora={"lora.r": "8", "lora.lora_alpha": TWICE_THE_RANK},
)
# LitGPT's switches for modules: those of Llama-like models, and whether they are on.
LITGPT_MODULES: Mapping[str, tuple[str, bool]] = {
    "lora_query": ("q_proj", True),
    "lora_key": ("k_proj", False),
    "lora_value": ("v_proj", True),
    "lora_projection": ("o_proj", False),
    "lora_mlp": ("gate_proj,up_proj,down_proj", False),
    "lora_head": ("lm_head", False),
}


def _hub_name(folder: str) -> str:
    """The Hub's name of a model that LitGPT downloaded; another folder as it is."""
    parts = folder.rstrip("/").split("/")
    return "/".join(parts[-2:]) if parts[-3:-2] == ["checkpoints"] else folder


LITGPT = Tool(
    "LitGPT",
    frozenset(
        words(
            """checkpoint_dir data.class_path data.init_args. eval.interval eval. log.
            logger_name lora_head lora_key lora_mlp lora_projection lora_query lora_value
            num_nodes out_dir precision quantize train. train.global_batch_size"""
        )
    ),
    own=(
        _FRESH,
        not_needed("it is in lora.target_modules", " ".join(LITGPT_MODULES)),
        not_needed("micro-batches follow from memory", "train.micro_batch_size"),
        not_needed("held-out rows are evaluated whole", "eval.max_iters"),
        not_needed(
            "the optimizer is AdamW",
            "optimizer.class_path",
            {
                "bitsandbytes.optim.adamw8bit": write(("optim", "adamw_8bit")),
                "bitsandbytes.optim.pagedadamw": write(("optim", "paged_adamw")),
            },
        ),
        renamed("val_size", "data.init_args.val_split_fraction"),
        not_here(
            "name the file under data",
            "data.class_path",
            decides=False,
            values=dict.fromkeys(
                words("json litgpt.data.json litgpt.data.textfiles textfiles"),
                needless("rows are recognized by their keys"),
            ),
        ),
        not_here(
            "the model's own chat template writes the conversations",
            "data.init_args.prompt_style",
            decides=False,
        ),
        not_needed("fine-tuning ends at 0 in LitGPT too", "train.min_lr"),
        renamed("model", "checkpoint_dir", convert=_hub_name),
        not_here("a new model is one of the presets: preset: small", "model_name"),
        renamed("learning_rate", "optimizer.init_args.lr"),
        renamed("weight_decay", "optimizer.init_args.weight_decay"),
        renamed("adam_beta1 adam_beta2", "optimizer.init_args.betas"),
        not_needed("the seed of the run decides", "data.init_args.seed"),
    ),
    unsaid={
        "batch_size": "16",
        "num_train_epochs": "5",
        "warmup_steps": "100",
        "learning_rate": "1e-3",
        "weight_decay": "0.01",
        "adam_beta2": "0.999",
        "assistant_only_loss": "false",
        "max_grad_norm": "1e9",
        "seed": "1337",
    },
    unsaid_lora={"lora.r": "8", "lora.lora_alpha": "16", "lora.lora_dropout": "0.05"},
)
TRL = Tool(
    "TRL",
    frozenset(
        words(
            """assistant_only_loss attn_implementation completion_only_loss dataset_name
            dataset_text_field dataset_train_split dtype eval_strategy load_best_model_at_end
            lora_target_modules model_name_or_path packing per_device_eval_batch_size
            report_to trl use_peft"""
        )
    ),
    own=(_FRESH, _TRAINS),
    unsaid={
        **_TRAINER,
        "learning_rate": "2e-5",
        "max_length": "1024",
        "assistant_only_loss": "false",
    },
    unsaid_lora={"lora.lora_dropout": "0.05", "lora.target_modules": "q_proj,v_proj"},
)
TRAINER = Tool(
    "transformers.TrainingArguments",
    frozenset(
        words(
            """accelerator_config data_seed dataloader_drop_last ddp_timeout do_eval do_predict
            eval_delay full_determinism hub_strategy ignore_data_skip label_smoothing_factor
            logging_strategy lr_scheduler_kwargs per_device_eval_batch_size
            prediction_loss_only remove_unused_columns report_to save_strategy"""
        )
    ),
    own=(_FRESH, _TRAINS),
    unsaid=_TRAINER,
)
_HYPERPARAMETERS = "hyperparameters.{0} method.supervised.hyperparameters.{0}"
OPENAI = Tool(
    "OpenAI's fine-tuning",
    frozenset(
        words(
            """hyperparameters. hyperparameters.n_epochs method.supervised.hyperparameters.
            method.supervised.hyperparameters.n_epochs method.type suffix training_file
            validation_file"""
        )
    ),
    own=(
        renamed("num_train_epochs", _HYPERPARAMETERS.format("n_epochs")),
        renamed("batch_size", _HYPERPARAMETERS.format("batch_size")),
        renamed("learning_rate_multiplier", _HYPERPARAMETERS.format("learning_rate_multiplier")),
        not_here("weights on this machine: model: DIR", "model", decides=False),
        not_needed(
            "answers are trained",
            "method.type",
            dict.fromkeys(
                words("dpo reinforcement"), missing("answers, without preferences or rewards")
            ),
        ),
        renamed("run_name", "suffix"),
    ),
)
TOOLS = {
    "axolotl": AXOLOTL,
    "llamafactory": LLAMA_FACTORY,
    "litgpt": LITGPT,
    "trl": TRL,
    "transformers": TRAINER,
    "openai": OPENAI,
}


def recognize(names: Iterable[str]) -> tuple[Tool | None, int]:
    """The tool that most of the keys belong to, and how many do.

    Args:
        names: of the keys, with their sections.
    """
    given = {*names}
    given |= {f"{name.rpartition('.')[0]}." for name in given if "." in name}
    counts = {key: len(tool.marks & given) for key, tool in TOOLS.items()}
    best = max(counts, key=lambda key: counts[key])
    return (TOOLS[best], counts[best]) if counts[best] else (None, 0)


def tool_of(names: Iterable[str]) -> str:
    """The name of the tool that a whole file was written for; "" for ours with a foreign line."""
    tool, num = recognize(names)
    return tool.name if tool and num >= _ENOUGH else ""
