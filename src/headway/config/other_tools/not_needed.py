"""Settings of other tools that can be left out: Headway does it always, or by itself."""

from headway.config.other_tools.meaning import Meaning, missing, needless, not_needed, words

_OWN_FIELDS = missing(
    "rows are recognized by their keys: rename the field to text, messages or prompt and completion"
)
_UNSAFE = missing("weights are saved as safetensors only", decides=False)
_AT_THE_END = needless("the last step is always saved, by time in between")

NOT_NEEDED: tuple[Meaning, ...] = (
    # weights in 4 bits
    not_needed(
        "load_in_4bit codes the scales of NF4 once more, always",
        "bnb_4bit_use_double_quant double_quantization use_bnb_nested_quant use_nested_quant",
        {"false": missing("NF4 with its scales coded once more", decides=False)},
    ),
    not_needed(
        "products with weights in 4 bits are in the run's number format: bf16 or fp32",
        "bnb_4bit_compute_dtype",
    ),
    # going on, and files that are there
    not_needed(
        "the same command resumes its run where it stopped; --fresh starts over",
        """auto_resume auto_resume_from_checkpoints resume_id resume_path start_from
        load_checkpoint recipe_checkpoint resume resume_checkpoint resume_from
        resume_from_checkpoint resume_run resume_training resume_training_checkpoint_path
        restore_callback_states_from_checkpoint""",
    ),
    not_needed(
        "a resume seeks to the next row, and trains none twice", "ignore_data_skip skip_batches"
    ),
    not_needed(
        "every checkpoint has all of the training state, and old ones are deleted",
        """save_on_each_node save_optimizer save_optimizer_state enable_async_checkpointing
        enable_jit_checkpoint use_async_save""",
    ),
    not_needed(
        "weights are saved as safetensors",
        "save_safetensors safe_serialization",
        {"false": _UNSAFE},
    ),
    not_needed(
        "a signal, a full disk or a fault ends with a checkpoint, and others are saved by time",
        """save_strategy save_first_step save_last save_model checkpoint_strategy
        always_save_checkpoint""",
        {
            "epoch": missing(
                "save_steps counts steps; headway plan says how many an epoch has", decides=False
            ),
            "best": missing("the newest weights are kept", decides=False),
            "no": _AT_THE_END,
        },
    ),
    # what is trained, and how
    not_needed(
        "headway train does this, and nothing else",
        "do_train do_finetune finetune train is_training mode trainer_cls trainer_type",
        {"false": missing("headway eval RUN DATA only evaluates", decides=False)},
    ),
    not_needed(
        "conversations are trained on their answers, text in full",
        "stage task task_type lora_task_type training_mode method",
        {
            **dict.fromkeys(
                ("rm", "ppo", "dpo", "kto", "orpo", "grpo", "simpo", "reward", "rlhf"),
                missing("next-token training: Headway has no preferences or rewards"),
            ),
            **dict.fromkeys(
                ("seq_cls", "token_cls", "question_ans", "seq_2_seq_lm", "classification"),
                missing("Headway trains models that continue text"),
            ),
        },
    ),
    not_needed(
        "rows are always packed without padding, and never see each other",
        """batch_flattening bfd eval_packing eval_sample_packing group_by_length
        group_by_modality_length length_column_name multipack_real_batches neat_packing
        dataset_packed packed pack_to_max_length packing packing_strategy pad_to_max_length
        pad_to_multiple_of pad_to_sequence_len padding padding_free padding_side
        padding_strategy pretrain_multipack_attn pretrain_multipack_buffer_size sample_packing
        sample_packing_bin_size sample_packing_eff_est sample_packing_group_size
        sample_packing_mp_start_method streaming_multipack_buffer_size use_packing
        variable_seq_lengths block_diag_attn pretraining_sample_concatenation""",
    ),
    not_needed(
        "a loss is the mean over all trained tokens of the whole batch",
        """average_tokens_across_devices ignore_index ignore_pad_token_for_loss
        num_items_in_batch include_num_input_tokens_seen prediction_loss_only loss
        include_effective_tokens_per_second include_tkps include_tokens_per_second
        multi_token_loss_average token_average""",
    ),
    not_needed(
        "every accepted row is trained, each as often as planned",
        "dataloader_drop_last drop_last",
    ),
    not_needed(
        "rows are shuffled by the seed, differently in every epoch",
        """shuffle shuffle_dataset shuffle_merged_datasets shuffle_before_merging_datasets
        shuffle_data train_sampling_strategy""",
        {
            **dict.fromkeys(
                ("false", "sequential"), missing("rows are always shuffled by the seed")
            ),
        },
    ),
    not_needed(
        "memory is planned before the run, and micro-batches follow from it",
        """auto_find_batch_size auto_micro_batch_size eval_accumulation_steps eval_batch_size
        per_device_eval_batch_size per_gpu_eval_batch_size val_batch_size low_cpu_mem_usage
        torch_empty_cache_steps gc_steps gc_collect_steps max_memory gpu_memory_limit
        skip_memory_metrics log_peak_memory_stats batch_eval_metrics eval_do_concat_batches
        eval_use_gather_object optimizer_in_bwd low_cpu_ram find_batch_size
        gpu_memory_utilization pad_token_id""",
    ),
    not_needed(
        "the attention kernel is chosen by trial; documents in a row never see each other",
        """attention attention_implementation attn_impl attn_implementation eager_attention eager
        sdpa flash flash_attention flash_attn flash_attention_2 flash_attn_2 flash_optimum
        flash_sdp flex_attention fused_attn_kernel sage_attention sdp_attention sdpa_attention
        sdpa_varlen use_flash_attention use_flash_attention_2 use_flash_attn use_flash_attn_2
        use_sdpa xformers_attention use_xformers flash_attn_d512 large_head_attention
        gemma4_hybrid_attn_impl""",
    ),
    not_needed(
        "operations that are faster fused are fused after a trial shows the same result",
        """cce chunked_cross_entropy chunked_cross_entropy_num_chunks cut_cross_entropy
        enable_liger_kernel flash_attn_cross_entropy flash_attn_fuse_mlp flash_attn_rms_norm
        fused fused_cross_entropy liger_cross_entropy liger_fused_linear_cross_entropy
        liger_kernel_config liger_rms_norm lora_embedding_kernel lora_mlp_kernel lora_o_kernel
        lora_qkv_kernel tiled_mlp tiled_mlp_num_shards tiled_mlp_use_original_mlp
        torch_compile_backend torch_compile_mode torch_compile_options use_cache use_kernels
        use_kv_cache use_liger use_liger_kernel use_unsloth use_unsloth_gc use_v1_kernels
        xformers experts_implementation flex_attn_compile_kwargs unsloth_cross_entropy_loss
        unsloth_lora_mlp unsloth_lora_o unsloth_lora_qkv unsloth_rms_norm unsloth_rope""",
    ),
    not_needed(
        "activations are recomputed or kept as memory requires; the result is the same",
        """activation_checkpointing_kwargs activation_offloading enable_activation_offloading
        fsdp_offload_params gradient_checkpointing_kwargs layer_offloading offload_folder
        selective_checkpointing use_reentrant use_reentrant_gc dynamic_checkpoint ac_mode
        ac_option activation_cpu_offload""",
    ),
    not_needed(
        "the number format is chosen by measurement; weights stay in fp32",
        """allow_tf32 matmul_precision fp32_norms fp32_norm_classes float32_matmul_precision tf32
        upcast_layernorm upcast_lmhead_output embeddings_skip_upcast
        peft_autocast_adapter_dtype tf32_mode autocast_adapter_dtype bf16_auto infer_dtype""",
    ),
    not_needed(
        "sizes are read from the model folder",
        """base_model_config cls_model_config is_falcon_derived_model is_llama_derived_model
        is_mistral_derived_model is_qwen_derived_model model_type tokenizer_type
        tokenizer_use_fast type_of_model use_fast use_fast_tokenizer use_slow_tokenizer
        tokenizer_legacy use_auth_token architecture model_arch model_class auto_model_class
        legacy""",
    ),
    not_needed(
        "the best device is used",
        "device_map n_gpu gpu cuda devices_auto experimental_skip_move_to_device lora_on_cpu",
        {"cpu": missing("device decides", ("device", "cpu"), decides=False)},
    ),
    # the data
    not_needed(
        "rows are recognized by their keys",
        """column_mapping answer_column chat_format completion_key conversation_format
        instruction_column messages_key prompt_col response_key columns conversation_column
        data_format dataset_column dataset_format dataset_text_field dataset_type
        dataset_kwargs ds_type field_messages format format_type formatting formatting_func
        input_column input_key messages_field prompt_column prompt_field prompt_key
        response_column text_column text_field text_key completion_column output_column
        label_names instruction_template response_template data_template""",
        {
            "*": _OWN_FIELDS,
            **dict.fromkeys(
                words(
                    """text messages conversations prompt completion instruction output input
                    auto json jsonl parquet csv txt chat sharegpt chatml openai alpaca
                    conversational raw chat_template labels"""
                ),
                needless("rows are recognized by their keys"),
            ),
        },
    ),
    not_needed(
        "only the keys that are needed are read",
        """remove_unused_columns lazy_preprocess keep_linebreaks dataset_keep_in_memory
        dataset_dir media_dir""",
    ),
    not_needed(
        "rows are tokenized once and kept in the cache; changes are detected",
        """cache_dir dataset_cache dataset_prepared_path dataset_processes dataset_num_proc
        dataset_shared_file_system data_shared_file_system hf_cache_dir is_preprocess
        num_preprocessing_workers num_proc overwrite_cache preprocess_iterable
        preprocess_shards preprocessing_batch_size preprocessing_num_workers download_mode
        skip_prepare_dataset skip_preprocessing tokenized_path use_cached_dataset
        num_dataset_shards_to_save push_dataset_to_hub""",
    ),
    not_needed(
        "data above 64 MB is read during training, by a separate process",
        """buffer_size data_num_workers data_workers dataloader_in_order
        dataloader_multiprocessing_context dataloader_num_workers
        dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor
        dataset_streaming num_data_workers num_workers persistent_workers pin_memory
        prefetch_factor shuffle_buffer_size streaming use_streaming workers""",
    ),
    not_needed(
        "the model's own chat template formats conversations; ChatML if it has none",
        "apply_chat_template template tool_format tokenizer_save_jinja_files",
        {
            **dict.fromkeys(
                ["alpaca", "default", "empty", "fewshot", "vanilla"],
                missing("the model's own chat template writes the conversations"),
            ),
        },
    ),
    not_needed("rows have no padding", "pad_token special_tokens.pad_token"),
    not_needed("its tokens are those of the model", "resize_vocab resize_token_embeddings vocab"),
    # what is shown, and processes
    not_needed(
        "the screen shows loss, speed, tokens and time left",
        """disable_tqdm no_progress progress silent disable_progress_bar log_level
        log_level_replica logging_first_step logging_strategy log_on_each_node progress_bar
        plot_loss print_param_status show_progress verbosity badam_verbose
        logging_nan_inf_filter include_for_metrics debug num_items_to_log total_num_tokens
        total_supervised_tokens""",
    ),
    not_needed(
        "a loss that is not finite ends the run before it reaches the weights",
        "loss_watchdog_patience loss_watchdog_threshold check_for_nan nan_check detect_anomaly",
    ),
    not_needed(
        "held-out rows are evaluated before and after training, with --val-size",
        """do_eval do_predict eval_on_start eval_on_each_dataset eval_iters eval_max_iters
        eval_strategy evaluation_strategy final_validation initial_validation eval_delay
        do_causal_lm_eval max_eval_batches limit_val_batches eval_batches val_batches""",
        {
            "epoch": missing(
                "eval_steps counts steps; headway plan says how many an epoch has", decides=False
            ),
        },
    ),
    not_needed(
        "a resumed run ends with the same bits as one that was not stopped",
        "cudnn_benchmark cudnn_deterministic",
    ),
    not_needed(
        "settings are checked before anything starts",
        "strict axolotl_config_path config config_file capabilities env_capabilities",
    ),
)
