"""What people type for other tools: each spelling is translated, not needed, or not available."""

import dataclasses
import shlex

import pytest
from transformers import TrainingArguments

from headway.base.errors import Cause, Problems, Refusal, UsageError
from headway.config.command_line import parse
from headway.config.other_tools.lookup import answer, meanings, own_value, text_of
from headway.config.other_tools.meaning import Answer, Outcome
from headway.config.settings import normalize, spellings

NOT_NEEDED, NOT_HERE = "not needed", "not here"

# What is typed, and what is told: the line to write instead, or that there is none.
SPELLINGS = {
    # transformers
    "--model_name_or_path models/qwen": "--model models/qwen",
    "--warmup_ratio 0.03": "--warmup-steps 0.03",
    "--overwrite_output_dir": "--fresh",
    "--resume_from_checkpoint": NOT_NEEDED,
    "--resume_from_checkpoint out/checkpoint-500": NOT_NEEDED,
    "--fp16": NOT_HERE,
    "--fp16 false": NOT_NEEDED,
    "--tf32": NOT_NEEDED,
    "--bf16_full_eval": "--bf16",
    "--torch_dtype bfloat16": "--bf16",
    "--torch_dtype float32": "--no-bf16",
    "--torch_dtype float16": NOT_HERE,
    "--dtype auto": NOT_NEEDED,
    "--use_cpu": "--device cpu",
    "--no_cuda": "--device cpu",
    "--deepspeed ds.json": NOT_HERE,
    "--fsdp full_shard": NOT_HERE,
    "--local_rank -1": NOT_HERE,
    "--report_to wandb": NOT_HERE,
    "--report_to none": NOT_NEEDED,
    "--push_to_hub": NOT_HERE,
    "--hub_model_id me/model": NOT_HERE,
    "--group_by_length": NOT_NEEDED,
    "--dataloader_num_workers 4": NOT_NEEDED,
    "--dataloader_drop_last": NOT_NEEDED,
    "--remove_unused_columns false": NOT_NEEDED,
    "--ddp_find_unused_parameters false": NOT_NEEDED,
    "--save_strategy steps": NOT_NEEDED,
    "--save_strategy epoch": NOT_HERE,
    "--save_strategy no": NOT_NEEDED,
    "--eval_strategy steps": NOT_NEEDED,
    "--evaluation_strategy epoch": NOT_HERE,
    "--per_device_eval_batch_size 8": NOT_NEEDED,
    "--per_gpu_train_batch_size 4": "--per-device-train-batch-size 4",
    "--load_best_model_at_end": NOT_HERE,
    "--metric_for_best_model loss": NOT_NEEDED,
    "--label_smoothing_factor 0.1": NOT_HERE,
    "--neftune_noise_alpha 5": NOT_HERE,
    "--gradient_checkpointing_kwargs x": NOT_NEEDED,
    "--auto_find_batch_size": NOT_NEEDED,
    "--logging_first_step": NOT_NEEDED,
    "--logging_dir logs": NOT_HERE,
    "--disable_tqdm true": NOT_NEEDED,
    "--do_train": NOT_NEEDED,
    "--do_eval": NOT_NEEDED,
    "--data_seed 7": NOT_HERE,
    "--full_determinism": "--deterministic",
    "--save_only_model": NOT_HERE,
    "--save_safetensors": NOT_NEEDED,
    "--cache_dir x": NOT_NEEDED,
    "--use_fast_tokenizer": NOT_NEEDED,
    "--tokenizer_name gpt2": "--tokenizer gpt2",
    "--validation_split_percentage 5": "--val-size 0.05",
    "--max_train_samples 100": NOT_HERE,
    "--preprocessing_num_workers 8": NOT_NEEDED,
    "--num_train_steps 100": "--max-steps 100",
    "--clip_grad 1.0": "--max-grad-norm 1.0",
    # TRL and PEFT
    "--dataset_name owner/name": "headway train owner/name",
    "--dataset_text_field text": NOT_NEEDED,
    "--dataset_text_field body": NOT_HERE,
    "--dataset_train_split train": NOT_NEEDED,
    "--dataset_num_proc 8": NOT_NEEDED,
    "--packing": NOT_NEEDED,
    "--padding_free": NOT_NEEDED,
    "--completion_only_loss true": "--assistant-only-loss",
    "--use_peft": "--lora",
    "--lora.dropout 0.1": "--lora.lora-dropout 0.1",
    "--lora.rank 8": "--lora.r 8",
    "--model.dropout 0.1": NOT_HERE,
    "--lora_modules_to_save lm_head": NOT_HERE,
    "--quantization_bit 4": "--load-in-4bit",
    "--quantization_bit 8": NOT_HERE,
    "--quantize bnb.nf4-dq": "--load-in-4bit",
    "--bnb_4bit_quant_type nf4": NOT_NEEDED,
    "--bnb_4bit_quant_type fp4": NOT_HERE,
    "--use_4bit": "--load-in-4bit",
    "--load_in_8bit": NOT_HERE,
    "--use_dora": NOT_HERE,
    "--use_rslora": NOT_HERE,
    "--use_rslora false": NOT_NEEDED,
    "--attn_implementation flash_attention_2": NOT_NEEDED,
    "--use_liger_kernel": NOT_NEEDED,
    "--model_revision main": NOT_NEEDED,
    "--chat_template_path x.jinja": NOT_HERE,
    "--loss_type nll": NOT_NEEDED,
    "--loss_type dft": NOT_HERE,
    "--beta 0.1": NOT_HERE,
    "--eos_token x": NOT_HERE,
    "--activation_offloading": NOT_NEEDED,
    # Axolotl
    "--base_model owner/name": "--model owner/name",
    "--sequence_len 2048": "--max-length 2048",
    "--micro_batch_size 2": "--per-device-train-batch-size 2",
    "--num_epochs 3": "--num-train-epochs 3",
    "--val_set_size 0.05": "--val-size 0.05",
    "--sample_packing": NOT_NEEDED,
    "--pad_to_sequence_len": NOT_NEEDED,
    "--flash-attn": NOT_NEEDED,
    "--flash_attention": NOT_NEEDED,
    "--train-on-inputs": "--no-assistant-only-loss",
    "--train_on_inputs true": "--no-assistant-only-loss",
    "--train_on_inputs=false": "--assistant-only-loss",
    "--train_on_inputs maybe": "--no-assistant-only-loss",
    "--adapter lora": "--lora",
    "--adapter qlora": "--lora --load-in-4bit",
    "--lora_target_linear": "--lora.target-modules all-linear",
    "--optimizer adamw_torch": "--optim adamw",
    "--optimizer adamw_bnb_8bit": "--optim adamw_8bit",
    "--optimizer lion_8bit": NOT_HERE,
    "--optimizer muon": "--optim muon",
    "--use_muon true": "--optim muon",
    "--lr_scheduler cosine": "--lr-scheduler-type cosine",
    "--lr_scheduler one_cycle": NOT_HERE,
    "--wandb_project x": NOT_HERE,
    "--saves_per_epoch 1": NOT_HERE,
    "--evals_per_epoch 4": NOT_HERE,
    "--excess_length_strategy drop": "--truncation reject",
    "--excess_length_strategy raise": "--truncation reject --max-rejected 0",
    "--dataset_prepared_path x": NOT_NEEDED,
    "--special_tokens x": NOT_HERE,
    "--chat_template tokenizer_default": NOT_NEEDED,
    "--chat_template llama3": NOT_HERE,
    "--unfrozen_parameters lm_head": NOT_HERE,
    "--datasets a.jsonl": "headway train a.jsonl",
    # LLaMA-Factory
    "--stage sft": NOT_NEEDED,
    "--stage dpo": NOT_HERE,
    "--finetuning_type lora": "--lora",
    "--finetuning_type full": "--no-lora",
    "--finetuning_type freeze": NOT_HERE,
    "--cutoff_len 1024": "--max-length 1024",
    "--template qwen": NOT_NEEDED,
    "--lora_rank 8": "--lora.r 8",
    "--lora_target all": "--lora.target-modules all-linear",
    "--lora_target q_proj,v_proj": "--lora.target-modules q_proj,v_proj",
    "--quantization_bit 3": NOT_HERE,
    "--overwrite_cache": NOT_NEEDED,
    "--dataset chats.jsonl": "headway train chats.jsonl",
    "--dataset_dir data": NOT_NEEDED,
    "--dataset_format alpaca": NOT_NEEDED,
    "--max_samples 1000": NOT_HERE,
    "--plot_loss": NOT_NEEDED,
    "--neat_packing": NOT_NEEDED,
    "--mask_history": NOT_HERE,
    "--train_on_prompt": "--no-assistant-only-loss",
    "--pure_bf16": "--bf16",
    "--flash_attn fa2": NOT_NEEDED,
    "--adapter_name_or_path x": NOT_HERE,
    "--use_unsloth": NOT_NEEDED,
    "--loraplus_lr_ratio 16": NOT_HERE,
    # LitGPT, torchtune, Lightning
    "--train.global_batch_size 16": "--batch-size 16",
    "--train.max_seq_length 512": "--max-length 512",
    "--train.lr_warmup_steps 10": "--warmup-steps 10",
    "--eval.interval 100": "--eval-steps 100",
    "--out_dir out": "--output-dir out",
    "--precision bf16-true": "--bf16",
    "--precision 32-true": "--no-bf16",
    "--precision 16-mixed": NOT_HERE,
    "--quantize bnb.nf4": "--load-in-4bit",
    "--devices 2": NOT_HERE,
    "--devices 1": NOT_NEEDED,
    "--accumulate_grad_batches 4": "--gradient-accumulation-steps 4",
    "--gradient_clip_val 1.0": "--max-grad-norm 1.0",
    "--clip_grad_norm 0": "--max-grad-norm 1e9",
    "--enable_activation_checkpointing true": "--gradient-checkpointing",
    "--compile": "--torch-compile",
    "--optimizer.lr 3e-4": "--learning-rate 3e-4",
    "--dataset.packed true": NOT_NEEDED,
    # nanoGPT, DeepSpeed, accelerate, mlx
    "--grad_clip 1.0": "--max-grad-norm 1.0",
    "--max_iters 600": "--max-steps 600",
    "--eval_interval 100": "--eval-steps 100",
    "--decay_lr false": "--lr-scheduler-type constant",
    "--min_lr 6e-5": NOT_HERE,
    "--n_layer 6": NOT_HERE,
    "--dropout 0.1": NOT_HERE,
    "--init_from resume": NOT_NEEDED,
    "--betas 0.9,0.95": "--adam-beta1 0.9 --adam-beta2 0.95",
    "--zero_stage 3": NOT_HERE,
    "--mixed_precision bf16": "--bf16",
    "--mixed_precision fp16": NOT_HERE,
    "--num_processes 8": "--nproc 8",
    "--iters 1000": "--max-steps 1000",
    "--fine-tune-type dora": NOT_HERE,
    "--save-every 100": "--save-steps 100",
    # OpenAI and Unsloth
    "--suffix support": "--run-name support",
    "--training_file chats.jsonl": "headway train chats.jsonl",
    "--validation_file x.jsonl": NOT_HERE,
    "--prompt_loss_weight 0.1": NOT_HERE,
    "--random_state 3407": "--seed 3407",
    "--use_gradient_checkpointing unsloth": "--gradient-checkpointing",
    "--resume": NOT_NEEDED,
    "--early_stopping_patience 3": NOT_HERE,
}

# What means the same, word for word, is taken.
ACCEPTED = {
    "--optim adamw_torch": ("optim", "adamw"),
    "--optim adamw_torch_fused": ("optim", "adamw"),
    "--optim AdamW": ("optim", "adamw"),
    "--optim adamw_bnb_8bit": ("optim", "adamw_8bit"),
    "--optim paged_adamw_32bit": ("optim", "paged_adamw"),
    "--lr_scheduler_type constant_with_warmup": ("lr_scheduler_type", "constant"),
    "--max_steps -1": ("max_steps", None),
    "--n_epochs 3": ("num_train_epochs", 3.0),
    "--n_epochs auto": ("num_train_epochs", None),
    "--batch_size auto": ("batch_size", None),
    "--learning_rate_multiplier auto": ("learning_rate_multiplier", None),
    "--lora_target_modules q_proj,v_proj": ("lora_target_modules", ("q_proj", "v_proj")),
    "--lora_target_modules all": ("lora_target_modules", ("all-linear",)),
    "--device cuda:0": ("device", "cuda"),
    "--max_seq_length 512": ("max_length", 512),
}
REFUSED_VALUES = {
    "--optim adamw_torch_8bit": "--optim adamw_8bit",
    "--optim adafactor": "--optim adamw",
    "--optim lion_32bit": "--optim adamw",
    "--optim adamv": "--optim adamw",
    "--lr_scheduler_type cosine_with_restarts": "--lr-scheduler-type cosine",
    "--lr_scheduler_type cosin": "--lr-scheduler-type cosine",
    "--max_grad_norm 0": "--max-grad-norm 1e9",
    "--save_steps 0.1": "--save-steps 500",  # not at every step
    "--eval_steps epoch": "without --eval_steps",
}


def refused(line: str) -> Refusal:
    with pytest.raises((UsageError, Problems)) as refusal:
        parse([*shlex.split(line)], {}, settings=True).settings()
    return refusal.value


@pytest.mark.parametrize("line", SPELLINGS)
def test_a_spelling_is_told_for_what_it_is(line: str) -> None:
    refusal, wanted = refused(line), SPELLINGS[line]
    assert not isinstance(refusal, Problems)
    assert refusal.cause is Cause.UNKNOWN_SETTING
    tries = [remedy.do for remedy in refusal.remedies]
    name = line.partition(" ")[0].partition("=")[0]
    if wanted in (NOT_NEEDED, NOT_HERE):
        said = "is not needed" if wanted == NOT_NEEDED else "is not available"
        assert said in refusal.what
        assert refusal.need
        assert tries[-1] == f"without {name}"
    else:
        assert tries == [wanted]


@pytest.mark.parametrize("line", SPELLINGS)
def test_what_is_suggested_can_be_typed(line: str) -> None:
    for remedy in refused(line).remedies:
        if remedy.do.startswith("--"):
            parse(shlex.split(remedy.do), {}, settings=True).settings()


@pytest.mark.parametrize("line", ACCEPTED)
def test_a_word_that_means_the_same_is_taken(line: str) -> None:
    name, value = ACCEPTED[line]
    _, settings = parse(shlex.split(line), {}, settings=True).settings()
    assert getattr(settings, name) == value


@pytest.mark.parametrize("line", REFUSED_VALUES)
def test_a_value_that_is_not_available_gets_one_that_is(line: str) -> None:
    refusal = refused(line)
    assert refusal.cause is Cause.INVALID_VALUE
    assert refusal.remedies[0].do == REFUSED_VALUES[line]
    if REFUSED_VALUES[line].startswith("--"):
        parse(shlex.split(refusal.remedies[0].do), {}, settings=True).settings()


def test_every_argument_of_transformers_is_known() -> None:
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert len(names) > 100
    assert [name for name in sorted(names) if not (name in spellings() or name in meanings())] == []


def test_no_name_is_ours_and_each_is_normalized() -> None:
    assert set(meanings()) & set(spellings()) == set()
    assert [name for name in meanings() if name != normalize(name)] == []


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("trl.beta", Outcome.NOT_HERE),
        ("fsdp_config.fsdp_offload_params", Outcome.NOT_HERE),
        ("loss._component_", Outcome.NOT_NEEDED),
        ("lr_scheduler.num_warmup_steps", Outcome.RENAMED),
        ("model.lora_rank", Outcome.RENAMED),
    ],
)
def test_a_key_in_a_section_has_the_meaning_of_the_section_or_its_own(
    name: str, outcome: Outcome
) -> None:
    found = answer(name, "5")
    assert found
    assert found.outcome is outcome


@pytest.mark.parametrize("name", ["zzz", "section.zzz", "", ".", "a.b.c"])
def test_a_name_of_nobody_has_no_meaning(name: str) -> None:
    assert answer(name, "1") is None


@pytest.mark.parametrize("value", ["false", "no", "none", "0", "", "[]"])
def test_what_is_turned_off_is_not_needed(value: str) -> None:
    found = answer("load_in_8bit", value)
    assert found
    assert found.outcome is Outcome.NOT_NEEDED
    bare = answer("load_in_8bit", True)
    assert bare
    assert bare.decides


def test_a_value_our_setting_does_not_take_gets_an_example_and_says_so() -> None:
    found = answer("cutoff_len", "long")
    assert found == Answer(Outcome.RENAMED, (("max_length", "128"),), exact=False)


def test_a_value_of_ours_is_left_as_it_is() -> None:
    rows = spellings()
    assert own_value(rows["optim"], "adamw") == "adamw"
    assert own_value(rows["seed"], "auto") == "auto"  # refused later: a number
    assert own_value(rows["batch_size"], ["8"]) == ["8"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "true"), (["a", 1], "[a, 1]"), (2.5, "2.5")]
)
def test_a_value_is_shown_as_a_file_has_it(value: object, text: str) -> None:
    assert text_of(value) == text
