"""Settings of ours under other tools' names, and values of ours under other tools' words."""

from collections.abc import Mapping

from headway.config.other_tools.meaning import (
    Answer,
    Meaning,
    missing,
    needless,
    renamed,
    words,
    write,
)

_QUANTIZED = write(("lora", "true"), ("load_in_4bit", "true"))
_ROUNDS: Mapping[str, str | Answer] = {"true": "adamw_8bit", "false": needless("it is off")}
_FP16 = missing("bf16 if the machine is fast at it, otherwise fp32; fp16 underflows", decides=False)
_NO_ADAPTER = missing("all weights, or LoRA", ("lora", "true"))
_DECIDED = needless("the plan decides it")

_PRECISION: Mapping[str, str | Answer] = {
    **dict.fromkeys(("bf16", "bf16_true", "bf16_mixed", "bfloat16", "torch.bfloat16"), "true"),
    **dict.fromkeys(("32", "32_true", "fp32", "float32", "float", "torch.float32", "no"), "false"),
    **dict.fromkeys(("16", "16_true", "16_mixed", "fp16", "float16", "half", "fp8"), _FP16),
    "torch.float16": _FP16,
    "auto": _DECIDED,
}
_ADAPTER: Mapping[str, str | Answer] = {
    **dict.fromkeys(("lora", "true"), "true"),
    **dict.fromkeys(("full", "none", "null", "false", "ft", ""), "false"),
    "qlora": _QUANTIZED,
    **dict.fromkeys(
        words("adalora boft dora freeze ia3 llama_adapter loha lokr oft p_tuning prefix vera"),
        _NO_ADAPTER,
    ),
}
_OPPOSITE: Mapping[str, str | Answer] = {"true": "false", "false": "true"}

# Each of our settings that other tools name differently.
SAME: tuple[Meaning, ...] = (
    # the model
    renamed(
        "model",
        """base_model base_model_name checkpoint checkpoint_path ckpt ckpt_path init_checkpoint
        load load_from load_path model_checkpoint pretrained pretrained_path weights
        base_model_name_or_path checkpoint_dir from_pretrained hf_model hf_model_path
        initial_checkpoint_dir model_dir model_id model_name model_name_or_path model_path
        pretrained_model pretrained_model_name_or_path pretrained_model_path""",
    ),
    renamed(
        "model",
        "init_from",
        {
            "scratch": needless("without a model, a new one is trained"),
            "resume": needless("the same command resumes its run where it stopped"),
        },
    ),
    renamed(
        "tokenizer",
        """tokenizer_config tokenizer_dir tokenizer_model tokenizer_name tokenizer_name_or_path
        tokenizer_path""",
    ),
    renamed("trust_remote_code", "allow_remote_code trust_remote_code_model"),
    # rows and batches
    renamed(
        "max_length",
        """context_len context_window ctx context_length cutoff_len cutoff_length
        max_context_length max_len max_packed_sequence_len max_seq_len max_sequence_length
        model_max_length n_ctx seq_length sequence_len""",
    ),
    renamed(
        "batch_size",
        """effective_batch_size global_batch_size global_train_batch_size total_batch_size
        train_batch_size""",
    ),
    renamed(
        "per_device_train_batch_size",
        """device_batch_size local_batch_size micro_batch_size microbatch_size mini_batch_size
        per_device_batch_size per_gpu_train_batch_size train_micro_batch_size_per_gpu""",
    ),
    renamed(
        "batch_tokens", "batch_size_tokens max_tokens_per_batch tokens_per_step tokens_per_batch"
    ),
    renamed(
        "gradient_accumulation_steps",
        """accumulate_grad_batches accumulation_steps grad_accum_steps update_freq
        grad_accumulation_steps gradient_accumulation gradient_accumulation_iters""",
    ),
    renamed(
        "assistant_only_loss",
        """completion_only_loss completions_only mask_inputs mask_prompt response_only_loss
        train_on_completions train_on_completions_only train_on_responses_only""",
    ),
    renamed(
        "assistant_only_loss",
        "train_on_input train_on_inputs train_on_prompt train_on_prompts train_on_source",
        _OPPOSITE,
    ),
    renamed(
        "truncation",
        "excess_length_strategy",
        {
            "drop": "reject",
            "truncate": "cut",
            "raise": write(("truncation", "reject"), ("max_rejected", "0")),
        },
    ),
    renamed(
        "truncation",
        "truncation_mode",
        {
            "keep_start": "cut",
            "keep_end": missing("rows are cut at their end", ("truncation", "reject")),
        },
    ),
    renamed("drop_duplicates", "dataset_exact_deduplication dedup deduplicate"),
    renamed(
        "val_size",
        """eval_split_size split_dataset_ratio test_size test_split_size val_set_size val_split
        val_split_fraction valid_size validation_size validation_split""",
    ),
    renamed(
        "val_size",
        "validation_split_percentage",
        convert=lambda percent: f"{float(percent) / 100:g}",
    ),
    # length of the run
    renamed(
        "num_train_epochs",
        "dataset_num_epochs epoch num_epoch max_epoch max_epochs num_epochs train_epochs",
    ),
    renamed(
        "max_steps",
        """iters max_iterations adam_iter max_update total_num_update max_iters max_train_steps
        max_training_steps max_updates num_iterations num_steps num_train_steps
        num_training_steps total_steps train_iters train_steps training_steps""",
    ),
    renamed("max_tokens", "max_train_tokens total_tokens"),
    renamed("max_time", "max_hours", convert=lambda hours: f"{float(hours):g}h"),
    renamed("max_time", "max_minutes", convert=lambda minutes: f"{float(minutes):g}m"),
    renamed("max_time", "max_training_time max_wall_time time_limit"),
    # optimization
    renamed(
        "learning_rate",
        "base_lr lrate initial_lr max_learning_rate max_lr peak_learning_rate peak_lr",
    ),
    renamed(
        "lr_scheduler_type",
        """learning_rate_scheduler lr_decay_style lr_schedule lr_schedule_type lr_scheduler
        lr_scheduler_name scheduler scheduler_type""",
    ),
    renamed("lr_scheduler_type", "decay_lr", {"true": "cosine", "false": "constant"}),
    renamed(
        "warmup_steps",
        """lr_warmup_fraction lr_warmup_iters lr_warmup_steps num_warmup_steps warmup
        warmup_fraction lr_warmup warmup_updates warmup_iters warmup_proportion warmup_ratio""",
    ),
    renamed("weight_decay", "adam_weight_decay wd"),
    renamed(
        "max_grad_norm",
        """clip_grad clip_grad_norm clip_gradients clip_norm grad_clip grad_clip_norm
        grad_norm_clip gradient_clip gradient_clip_val gradient_clipping max_gradient_norm
        max_norm""",
    ),
    renamed("optim", "optimizer optimizer_name optimizer_type"),
    renamed("optim", "use_muon", {"true": "muon", "false": "adamw"}),
    renamed("adam_beta1 adam_beta2", "adam_betas betas optimizer_betas"),
    renamed("adam_beta1", "adam_b1 beta1"),
    renamed("adam_beta2", "adam_b2 beta2"),
    renamed("adam_epsilon", "adam_eps eps epsilon optimizer_eps"),
    renamed("lora", "peft use_lora use_peft"),
    renamed("lora", "full_finetune full_finetuning", _OPPOSITE),
    renamed(
        "lora",
        "adapter finetuning_type fine_tune_type peft_type train_type training_type tuner_type",
        _ADAPTER,
    ),
    renamed(
        "load_in_4bit",
        "four_bit nf4 qlora quantize_4bit quantize_base use_4bit use_4bit_quantization use_qlora",
    ),
    renamed("optim", "use_8bit_adam use_8bit_optimizer use_adamw_8bit", _ROUNDS),
    renamed("lora.r", "lora_dim r lora_rank rank"),
    renamed(
        "lora.target_modules",
        "lora_attn_modules lora_targets target_module lora_modules lora_target target_modules",
    ),
    renamed(
        "lora.target_modules",
        "lora_target_linear",
        {"true": "all-linear", "false": needless("lora.target_modules names the modules")},
    ),
    renamed("lora.lora_alpha", "alpha"),
    renamed("seed", "random_seed random_state rng_seed"),
    # the machine
    renamed("device", "accelerator", {"gpu": "cuda", "auto": _DECIDED}),
    renamed("device", "use_gpu", {"true": "cuda", "false": "cpu"}),
    renamed("device", "cpu no_cuda use_cpu", {"true": "cpu", "false": _DECIDED}),
    renamed("device", "use_mps_device", {"true": "mps", "false": _DECIDED}),
    renamed(
        "bf16",
        "amp_dtype compute_dtype dtype mixed_precision model_dtype precision torch_dtype",
        _PRECISION,
    ),
    renamed("bf16", "bf16_full_eval bfloat16 pure_bf16"),
    renamed("bf16", "float32 fp32", _OPPOSITE),
    renamed(
        "gradient_checkpointing",
        """activation_checkpoint recompute_activations activation_checkpointing
        enable_activation_checkpointing fsdp_activation_checkpointing grad_checkpoint
        grad_checkpointing recompute use_gradient_checkpointing""",
    ),
    renamed("gradient_checkpointing", "disable_gradient_checkpointing", _OPPOSITE),
    renamed("torch_compile", "compile compile_model compile.enable use_compile use_torch_compile"),
    renamed("deterministic", "full_determinism use_deterministic"),
    renamed("nproc", "nproc_per_node num_processes local_world_size"),
    renamed("threads", "cpu_threads cpus num_cpu omp num_threads omp_num_threads"),
    # checkpoints, evaluation, logging
    renamed(
        "save_steps",
        """checkpoint_every checkpoint.interval checkpoint_interval checkpointing_steps ckpt_freq
        ckpt_interval save_every save_every_n_steps save_freq save_interval steps_per_save""",
    ),
    renamed(
        "save_total_limit",
        "checkpoints_total_limit keep_last keep_last_n_checkpoints max_checkpoints max_to_keep",
    ),
    renamed(
        "eval_steps",
        """eval_every eval_every_n_steps eval_freq eval_interval evaluation_steps eval.interval
        run_val_every_n_steps steps_per_eval val_check_interval val_interval validation_steps""",
    ),
    renamed("sample_steps", "sample_every generate_every sample_freq sample_interval"),
    renamed("sample_tokens", "generation_max_new_tokens"),
    renamed(
        "logging_steps",
        """log_every log_every_n_steps log_freq log_interval logging_interval print_every
        report_interval steps_per_report""",
    ),
    # the run
    renamed(
        "output_dir",
        """out out_dir checkpoint.folder job.dump_folder result_folder save output output_path
        result_dir results_dir save_dir save_folder save_path""",
    ),
    renamed(
        "run_name",
        """exp_name experiment_name job_name suffix swanlab_run_name mlflow_run_name
        trackio_run_name wandb_name wandb_run_name""",
    ),
    renamed("continue", "continue_from"),
    renamed("reset_optimizer", "no_load_optim reset_optim"),
    renamed("fresh", "restart overwrite overwrite_output_dir"),
    renamed("sample_prompts", "generation_prompts prompt prompts sample_prompt"),
)

# Other tools' names for what to train on: no setting, but an argument, or `data:` in a file.
DATA_NAMES = frozenset(
    words(
        """corpus data data_dir data_file data_files data_path dataset dataset_files dataset_id
        dataset_mixture dataset_name dataset_name_or_path dataset_path datasets input_file
        json_path local_dataset pretraining_dataset train_data train_data_dir train_data_files
        train_data_path train_dataset train_dir train_file train_files train_path
        training_data training_file training_files"""
    )
)

# Other tools' names for options of generate and chat, which are not settings of a run.
OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("max_new_tokens", "max_gen_len", "max_length", "n_predict", "num_tokens"), "max_tokens"
    ),
    **dict.fromkeys(("temp", "sampling_temperature"), "temperature"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("input", "text", "start", "prompts"), "prompt"),
    **dict.fromkeys(("allow_remote_code", "trust_remote"), "trust_remote_code"),
}

_ADAMW = words(
    """adam_w adamw_fused adamw_hf adamw_torch adamw_torch_fused adamw_torch_npu_fused
    adamw_torch_xla fusedadamw torch.optim.adamw transformers.adamw"""
)
_ADAMW_8BIT = words("adamw_bnb_8bit bitsandbytes.optim.adamw8bit")
_OTHER_ADAMW_8BIT = words("adamw_torch_8bit torchao.optim.adamw8bit adamw_torch_4bit")
_PAGED_ADAMW = words("bitsandbytes.optim.pagedadamw paged_adamw_32bit")
_IN_8BIT = missing(
    "AdamW with its state in fp32, or in bitsandbytes' 8 bits",
    ("optim", "adamw_8bit"),
    decides=False,
)
_OTHER_OPTIMIZER = missing(
    "the optimizers are adamw, in 8 bits or paged too, and muon", ("optim", "adamw")
)
_OTHER_SCHEDULE = missing(
    "the schedules are cosine, linear, constant and wsd", ("lr_scheduler_type", "cosine")
)
_STEPS = missing("a whole number of steps", decides=False)
_TUNE = "torchtune.training.lr_schedulers."
_AUTO: Mapping[str, str | Answer | None] = {"auto": None}

# Our setting -> another tool's word for a value of it, in lower case -> ours. These mean exactly
# the same and are accepted; None: let the plan decide. "*" stands for every other word.
OWN_VALUES: Mapping[str, Mapping[str, str | Answer | None]] = {
    "optim": {
        **dict.fromkeys(_ADAMW, "adamw"),
        "torch.optim.muon": "muon",
        **dict.fromkeys(_ADAMW_8BIT, "adamw_8bit"),
        **dict.fromkeys(_PAGED_ADAMW, "paged_adamw"),
        **dict.fromkeys(_OTHER_ADAMW_8BIT, _IN_8BIT),
        "*": _OTHER_OPTIMIZER,
    },
    "lr_scheduler_type": {
        **dict.fromkeys(("constant_with_warmup", "get_constant_schedule_with_warmup"), "constant"),
        **dict.fromkeys(("warmuplr", "constant_schedule_with_warmup"), "constant"),
        **dict.fromkeys(("linear_with_warmup", "get_linear_schedule_with_warmup"), "linear"),
        "warmupdecaylr": "linear",
        **dict.fromkeys(("cosine_with_warmup", "get_cosine_schedule_with_warmup"), "cosine"),
        "per_file_cosine": "cosine",  # each file of an inbox is a run
        **dict.fromkeys((_TUNE + "get_cosine_schedule_with_warmup", "warmupcosinelr"), "cosine"),
        "*": _OTHER_SCHEDULE,
    },
    "max_steps": {"-1": None, "auto": None},
    "max_grad_norm": {
        **dict.fromkeys(("0", "0.0", "none", "null"), write(("max_grad_norm", "1e9"))),
    },
    "gradient_checkpointing": {
        "unsloth": "true",
        "offload": "true",
        "full": "true",
        "none": "false",
        "auto": None,
    },
    "device": {"gpu": "cuda", "cuda:0": "cuda", "auto": None},
    "truncation": {"true": "cut"},
    "save_steps": {"epoch": _STEPS, "steps": _STEPS},
    "eval_steps": {"epoch": _STEPS, "steps": _STEPS},
    "lora_target_modules": {"all": "all-linear", "all_linear": "all-linear"},
    **dict.fromkeys(
        words(
            """batch_size per_device_train_batch_size gradient_accumulation_steps max_length
            num_train_epochs learning_rate learning_rate_multiplier warmup_steps bf16
            torch_compile threads batch_tokens"""
        ),
        _AUTO,
    ),
}
