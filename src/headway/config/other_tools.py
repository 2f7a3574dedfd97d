"""Setting aliases: names and values used by other training tools."""

# Our names, and other tools' names for the same setting.
_OTHER_NAMES = {
    "assistant_only_loss": ("train_on_inputs", "train_on_prompt"),
    "batch_size": ("global_batch_size",),
    "bf16": ("precision",),
    "eval_steps": ("eval_interval",),
    "gradient_accumulation_steps": ("accumulate_grad_batches",),
    "lora": ("adapter", "finetuning_type"),
    "lora.target_modules": ("lora_target",),
    "lr_scheduler_type": ("lr_scheduler", "learning_rate_scheduler"),
    "max_grad_norm": ("gradient_clip_val", "max_norm"),
    "max_length": ("cutoff_len", "cutoff_length", "max_seq_len", "model_max_length"),
    "max_steps": ("num_steps",),
    "model": ("base_model", "model_name", "model_name_or_path"),
    "num_train_epochs": ("dataset_num_epochs", "max_epochs", "n_epochs", "num_epochs"),
    "optim": ("optimizer",),
    "output_dir": ("out_dir",),
    "per_device_train_batch_size": ("micro_batch_size",),
    "save_steps": ("save_interval",),
    "val_size": ("val_set_size",),
    "warmup_steps": ("warmup_ratio",),
}
FOREIGN = {theirs: ours for ours, names in _OTHER_NAMES.items() for theirs in names}
# Where values differ too: their value, and ours.
FOREIGN_VALUES = {
    "adapter": {"lora": "true", "qlora": "true"},
    "finetuning_type": {"lora": "true", "full": "false"},
    "lora_target": {"all": "all-linear"},
    "precision": {"bf16": "true", "bf16-true": "true", "bf16-mixed": "true", "32": "false"},
    "train_on_inputs": {"true": "false", "false": "true"},
    "train_on_prompt": {"true": "false", "false": "true"},
}
# Other tools' names for our `data:`, which is not a setting.
FOREIGN_DATA_NAMES = {
    "data_path",
    "dataset",
    "dataset_path",
    "datasets",
    "train_data",
    "train_file",
}
