"""Settings of other tools that Headway has no counterpart for, and what to use instead."""

from headway.config.other_tools.meaning import Meaning, missing, needless, not_here, write

_OFF_ALREADY = needless("Headway always does this")
_PLAIN_LOSS = needless("the loss is cross-entropy")
_OWN_TEMPLATE = needless("the model's own chat template writes the conversations")

_NF4 = write(("load_in_4bit", "true"))

NOT_HERE: tuple[Meaning, ...] = (
    # weights in fewer bits, other than load_in_4bit
    not_here(
        "weights as they are, or in NF4 (load_in_4bit): adapters train on both",
        """awq bnb bnb_4bit_quant_storage bnb_config bnb_config_kwargs eight_bit fp4 fp8 fp8_backend
        fp8_config fp8_enable_fsdp_float8_all_gather gguf_quantization gptq int4 int8 load_in_8bit
        load_in_fp8 model_quantization_config model_quantization_config_kwargs qat quant
        qlora_sharded_model_loading quant_method quantization_config quantization_device_map
        quantization_type quantize_moe_experts quantizer use_8bit use_onebitllms use_quantization
        use_torchao""",
        lines=(("lora", "true"),),
    ),
    not_here(
        "weights as they are, or in NF4 (load_in_4bit): adapters train on both",
        "bits quant_bits quantization quantization_bit quantize",
        lines=(("lora", "true"),),
        values={
            **dict.fromkeys(("4", "bnb.nf4", "bnb.nf4_dq", "nf4", "qlora"), _NF4),
            **dict.fromkeys(("16", "32"), needless("weights stay as they are")),
        },
    ),
    not_here(
        "the codes are NF4",
        "bnb_4bit_quant_type quantization_method",
        lines=(("load_in_4bit", "true"),),
        values={
            "nf4": needless("the codes are NF4"),
            **dict.fromkeys(("bitsandbytes", "bnb"), needless("bitsandbytes makes the codes")),
        },
    ),
    not_here(
        "bf16 if the machine is fast at it, otherwise fp32; fp16 underflows",
        "fp16 fp16_full_eval fp16_backend fp16_opt_level float16 half_precision amp loss_scale",
        decides=False,
        lines=(("bf16", "true"),),
    ),
    # several machines or devices
    not_here(
        "one process on one device: the plan fits the run into its memory",
        """accelerate_config accelerator_config context_parallel context_parallel_degree
        context_parallel_size cp_size cpu_offload data_parallel_replicate_degree
        data_parallel_shard_degree ddp ddp_backend cp cuda_visible_devices deepspeed_stage
        distributed ds_config ep fsdp_policy gpu_id n_gpus nodes num_gpu
        parallel pipeline_model_parallel_size pp rdzv_id sequence_parallel standalone
        tensor_model_parallel_size tp use_deepspeed use_distributed_optimizer zero zero2 zero3
        dynamo_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters
        ddp_static_graph ddp_timeout deepcompile deepspeed deepspeed_config
        deepspeed_multinode_launcher devices distributed_backend distributed_type dp
        dp_replicate_size dp_shard_size expert_parallel_degree fsdp fsdp_auto_wrap_policy
        fsdp_backward_prefetch fsdp_config fsdp_cpu_offload fsdp_cpu_ram_efficient_loading
        fsdp_final_state_dict_type fsdp_forward_prefetch fsdp_reshard_after_forward
        fsdp_sharding_strategy fsdp_state_dict_type fsdp_sync_module_states
        fsdp_transformer_layer_cls_to_wrap fsdp_use_orig_params fsdp_version gpu_ids gpus
        heads_k_stride hostfile local_rank machine_rank main_process_ip
        main_process_port master_addr master_port memory_efficient_fsdp_wrap multi_gpu nnodes
        node_rank num_gpus num_machines num_nodes offload
        offload_optimizer offload_optimizer_device offload_param offload_param_device
        optimizer_offload parallelism_config pipeline_parallel_degree pipeline_parallel_size
        pp_size ray_init_kwargs ray_num_workers ray_run_name rdzv_backend rdzv_endpoint
        resources_per_worker ring_attn_func sequence_parallel_degree sequence_parallel_size
        sp_size strategy tensor_parallel tensor_parallel_degree tensor_parallel_dim
        tensor_parallel_plan tensor_parallel_size torchdistx_path tp_size use_cpu_offload
        use_ds_zero use_fsdp use_hyper_parallel hyper_parallel_args use_mca use_ray world_size
        zero3_init_flag zero3_save_16bit_model zero_optimization zero_stage num_shards
        n_gpus_per_node custom_sharded_layers use_kt kt_weight_path kt_expert_checkpoint_path
        kt_use_lora_experts kt_lora_expert_num kt_lora_expert_intermediate_size
        ple_cpu_offload""",
        decides=False,
        values={"1": needless("one process trains"), "auto": needless("one process trains")},
    ),
    # other trackers, the Hub
    not_here(
        "the run's own events.jsonl, losses.csv and receipt.json: nothing is sent anywhere",
        """comet_api_key comet_experiment_config comet_experiment_key comet_mode aim clearml
        dvclive log_file mlflow neptune sacred comet_online comet_project_name comet_workspace
        enable_tensorboard enable_wandb hf_mlflow_log_artifacts log_completions log_dir
        log_with logger logger_name logging_dir metric_logger mlflow_experiment_name
        mlflow_tracking_uri otel_metrics_host otel_metrics_port project report_to
        swanlab_api_key swanlab_lark_secret swanlab_lark_webhook_url swanlab_logdir
        swanlab_mode swanlab_project swanlab_workspace tensorboard tensorboard_dir
        trackio_bucket_id trackio_project_name trackio_space_id trackio_static_space_id
        track_experiments tracker use_comet use_mlflow use_otel_metrics use_swanlab
        use_tensorboard use_trackio use_wandb wandb wandb_api_key wandb_entity wandb_group
        wandb_log wandb_log_model wandb_mode wandb_project wandb_run_id wandb_token
        wandb_watch wandb_tags eval_table_size log_multimodal num_completions_to_print log
        log_model save_logs log.run log.group log.teamspace log.metadata log.checkpoint_name""",
        decides=False,
    ),
    not_here(
        "headway export RUN --to hf or gguf, once it is trained: nothing is uploaded",
        """export_dir export_device export_gguf hf_repo hub_path merge merge_weights
        merged_output push_model push_to_huggingface repo_id repo_name save_merged_model
        save_method upload_to_hub export_hub_model_id export_legacy_format
        export_quantization_bit export_quantization_dataset export_quantization_maxlen
        export_quantization_nsamples export_size hub_always_push hub_model_id hub_private_repo
        hub_repo_id hub_revision hub_strategy push_to_hub push_to_hub_model_id
        push_to_hub_organization push_to_hub_token upload gguf save_gguf merge_lora
        merge_method merge_and_save merge_adapter save_merged push_gguf""",
        decides=False,
    ),
    not_here(
        "the environment variable HF_TOKEN",
        """access_token api_key hf_hub_token hf_token hf_use_auth_token hub_token
        huggingface_token ms_hub_token om_hub_token token""",
        decides=False,
    ),
    not_here(
        "measure from outside: py-spy, nsys; the receipt has the seconds of every phase",
        """enable_torch_profiler profile profile_modules profiler profiler_active_steps
        profiler_output_dir profiler_profile_memory profiler_record_shapes profiler_repeat
        profiler_steps profiler_steps_start profiler_wait_steps profiler_warmup_steps
        profiler_with_stack profiling""",
        decides=False,
    ),
    # which weights are kept
    not_here(
        "training ends after its steps, and the newest weights are kept; eval_steps shows the loss",
        """early_stopping early_stopping_patience early_stop patience early_stopping_steps
        early_stopping_threshold early_stopping_callback greater_is_better keep_best
        load_best_model load_best_model_at_end metric_for_best_model save_best
        use_early_stopping""",
        lines=(("eval_steps", "100"),),
        values={
            **dict.fromkeys(("loss", "eval_loss"), needless("the held-out loss is what is shown"))
        },
    ),
    not_here(
        "a checkpoint has all of the training state",
        "save_only_model save_adapter_weights_only save_weights_only save_lora_only",
        decides=False,
    ),
    not_here(
        "val_size holds out rows; headway eval RUN FILE evaluates another file",
        """compute_accuracy compute_metrics core_metric_every dev_file eval evaluate evaluation
        evaluation_data test_batches test_data val val_file val_path validate validation
        do_bench_eval bench_dataset bench_split dataset_test_split eval_causal_lm_metrics
        eval_data eval_dataset eval_datasets eval_file eval_max_new_tokens eval_num_beams
        eval_sequence_len evaluate_example evals_per_epoch generate_samples
        generation_do_sample generation_prompt_ratio generation_temperature generation_top_k
        generation_top_p max_eval_samples n_shot num_generation_samples predict_with_generate
        task_dir test_dataset test_datasets test_file val_data val_data_path val_dataset
        valid_file validation_data validation_file validation_dataset eval_split_name
        valid_data""",
        decides=False,
        lines=(("val_size", "0.05"),),
    ),
    not_here(
        "checkpoints are saved by time and at the end; save_steps counts steps",
        "saves_per_epoch save_per_epoch save_every_epoch save_every_n_epochs save_epochs",
        decides=False,
        lines=(("save_minutes", "10"),),
    ),
    # which rows, and what is written of them
    not_here(
        "an address names the configuration and the split: hf://owner/name/CONFIG@SPLIT",
        """dataset_config dataset_config_name dataset_revision dataset_split dataset_subset
        dataset_train_split split subset train_split""",
        values={"train": needless("train is the split that is read")},
    ),
    not_here(
        "every row of the data is trained: make a smaller file, or set max_steps",
        """dataset_fraction data_fraction limit line_by_line max_examples target_param_data_ratio
        train_samples dataset_shard_idx dataset_shard_num max_prompt_len max_prompt_length
        max_samples max_train_samples min_sample_len num_samples n_samples num_train_samples
        sample_size subset_size""",
        lines=(("max_steps", "100"),),
    ),
    not_here(
        "all sources are read as one, with equal weights: repeat or thin out files instead",
        """dataset_mixer dataset_probs interleave_probs mix_strategy mixture_weights
        dataset_weights data_mixing curriculum_sampling sample_packing_sequentially curriculum
        disable_shuffling""",
        values={"concat": needless("sources are read as one")},
    ),
    not_here(
        "the seed orders the rows too",
        "data_seed dataset_seed shuffle_seed split_seed",
        decides=False,
        lines=(("seed", "42"),),
    ),
    not_here(
        "the model's own chat template; to use another, write it to MODEL/chat_template.jinja",
        """chat_template chat_template_jinja instruct prompt_template_name system
        chat_template_kwargs chat_template_path conversation_template conv_template
        custom_chat_template default_system default_system_message drop_system_message
        enable_thinking preserve_thinking prompt_format prompt_style prompt_template
        split_thinking system_message system_prompt train_on_eos train_on_eot""",
        values={
            **dict.fromkeys(
                ["tokenizer_default", "tokenizer_default_fallback_chatml", "true"], _OWN_TEMPLATE
            )
        },
    ),
    not_here(
        'mark the messages that are not to be trained with "train": false',
        """last_turn_only mask_history message_field_training message_field_training_detail
        roles_to_train train_on_last_step_only train_on_last_turn_only train_last_only""",
    ),
    not_here(
        "the tokens of the model's tokenizer_config.json",
        """add_bos add_bos_token add_eos add_eos_token add_tokens
        added_tokens_overrides additional_special_tokens bos_token bos_token_id eos_token
        eos_token_id eot_tokens fix_untrained_tokens init_special_tokens new_special_tokens
        new_special_tokens_config new_tokens special_tokens split_special_tokens
        stop_token_ids tokenizer_use_mistral_common tokens unk_token""",
    ),
    not_here(
        "the newest safetensors at the address; for a commit, download it and name the folder",
        "model_commit_hash model_revision revision revision_of_model",
        values={"main": _OFF_ALREADY},
    ),
    # the model's shape
    not_here(
        "the preset, for a new model",
        """bias ffn_dim_multiplier hidden_dim activation arch config_name config_overrides
        embed_dim ffn_hidden_size init_method_std layer_norm_eps merge_file n_embed
        n_positions normalization num_heads position_embedding_type swiglu tie_word_embeddings
        untie_embeddings_and_output_weights vocab_file ignore_mismatched_sizes hidden_size
        intermediate_size model_config model_flavor multiple_of n_embd n_head n_heads
        n_kv_heads n_layer n_layers num_attention_heads num_hidden_layers num_key_value_heads
        num_layers reinit_weights tie_embeddings train_from_scratch from_scratch depth d_model""",
        lines=(("preset", "small"),),
    ),
    not_here(
        "the model as its config.json says: change it there",
        """attention_dropout embd_dropout resid_dropout attn_dropout dropout dropout_prob
        embd_pdrop hidden_dropout llama4_linearized_experts mean_resizing_embeddings
        mixture_of_depths model_init_kwargs model_kwargs overrides_of_model_config
        overrides_of_model_kwargs resid_pdrop resize_token_embeddings_to_32x rope_scaling
        rope_theta router_aux_loss_coef moe_aux_loss_coef s2_attention scaling_softmax
        scaling_softmax_bias scaling_softmax_factor shift_attn shrink_embeddings use_pose
        pose_max_context_len pose_num_chunks pose_split_on_token_ids yarn aux_loss_coef
        output_router_logits ignore_bias_buffers disable_dropout""",
    ),
    # which weights are trained
    not_here(
        "all weights, or LoRA on linear modules",
        """additional_target block_expansion freeze freeze_base_model freeze_embed
        freeze_embeddings freeze_extra_modules freeze_language_model freeze_layers
        freeze_mm_modules freeze_trainable_layers freeze_trainable_modules
        lisa_layers_attribute lisa_n_layers lisa_step_interval lora_bias lora_embedding
        lora_head lora_key lora_layers lora_mlp lora_modules_to_save lora_projection
        lora_query lora_target_parameters lora_value apply_lora_to_mlp apply_lora_to_output
        modules_to_save num_lora_layers optim_target_modules peft_ensure_weight_tying
        peft_layer_replication peft_layers_pattern peft_layers_to_transform
        peft_trainable_token_indices train_embeddings trainable_layers trainable_modules
        trainable_parameters unfreeze unfrozen_parameters use_llama_pro
        finetune_attention_modules finetune_language_layers finetune_mlp_modules
        layers_to_transform layers_pattern lora_fan_in_fan_out""",
        lines=(("lora.target_modules", "all-linear"),),
    ),
    not_here(
        "plain LoRA, scaled by alpha / r",
        """adalora create_new_adapter lora_config lora_scale use_lora_plus init_lora_weights
        lora_alpha_pattern lora_rank_pattern lora_init loftq_config loftq_bits
        loraplus_lr_embedding loraplus_lr_ratio module_dropout oft_block_size oft_rank
        oft_target peft_config peft_init_lora_weights peft_use_dora peft_use_rslora
        pissa_convert pissa_init pissa_iter relora relora_cpu_offload relora_prune_method
        relora_prune_ratio relora_steps jagged_restart_anneal_steps jagged_restart_steps
        jagged_restart_warmup_steps rslora use_dora use_loftq use_rslora dora rank_pattern
        alpha_pattern""",
        lines=(("lora", "true"),),
    ),
    not_here(
        "headway export ADAPTERS --to hf merges them first; --continue RUN for a Headway run",
        """adapter_checkpoint lora_adapter adapter_folder adapter_name_or_path adapter_path
        lora_model_dir lora_path lora_weights peft_model_id peft_path resume_adapter_file
        resume_lora_training""",
    ),
    # optimization
    not_here(
        "the optimizers are adamw, in 8 bits or paged too, and muon",
        """adam_beta3 adam_epsilon2 adam_mini apollo_layerwise apollo_proj apollo_proj_type
        apollo_rank apollo_scale apollo_scale_front apollo_scale_type apollo_target
        apollo_update_interval badam_mask_mode badam_mode badam_start_block
        badam_switch_interval badam_switch_mode badam_update_ratio dion_lr dion_momentum
        dion_rank_fraction dion_rank_multiple_of amsgrad ema ema_decay swa galore
        galore_layerwise galore_proj_type galore_rank galore_scale galore_target
        galore_update_interval momentum nesterov optim_args optimizer_kwargs
        qgalore_cos_threshold qgalore_gamma_proj qgalore_proj_bits qgalore_proj_group_size
        qgalore_proj_quant qgalore_proj_type qgalore_queue_size qgalore_rank qgalore_scale
        qgalore_update_proj_gap use_adafactor use_adam_mini use_apollo use_badam use_galore
        muon_lr lion sgd adafactor""",
        lines=(("optim", "adamw"),),
    ),
    not_here(
        "cosine and linear end at 0 after the last step",
        """cosine_constant_lr_ratio cycle_length decay_steps lr_decay lr_gamma
        override_opt_param_scheduler power step_size warmup_epochs cosine_min_lr_ratio
        lr_decay_iters lr_decay_ratio lr_decay_steps lr_div_factor lr_end lr_min
        lr_quadratic_warmup lr_scheduler_kwargs min_learning_rate min_lr min_lr_rate
        min_lr_ratio num_cycles decay_ratio final_lr lr_final cooldown_steps wsd_decay_steps
        warmup_start_lr""",
        lines=(("lr_scheduler_type", "cosine"),),
    ),
    not_here(
        "one learning rate for all weights",
        """embedding_learning_rate matrix_lr scalar_lr unembedding_lr embedding_lr
        embedding_lr_scale head_lr layerwise_lr_decay lr_groups discriminative_lr backbone_lr
        vision_lr""",
        lines=(("learning_rate", "2e-4"),),
    ),
    not_here(
        "the loss is cross-entropy over the trained tokens",
        """asft_alpha class_weights criterion focal_loss kl kl_coeff label_smooth custom_loss
        distill eaft_alpha eaft_k label_smoothing label_smoothing_factor loss_fn loss_function
        loss_type neft_alpha neftune neftune_alpha neftune_noise_alpha noisy_embedding_alpha
        use_asft_loss use_dft_loss use_eaft use_eaft_loss z_loss z_loss_weight kd_ratio
        kd_loss kd_alpha kd_temperature teacher_model teacher_model_name_or_path
        prompt_loss_weight mask_ratio mtp_loss_weight""",
        values={
            **dict.fromkeys(
                ["nll", "chunked_nll", "ce", "cross_entropy", "causal_lm", "sft"], _PLAIN_LOSS
            ),
        },
    ),
    not_here(
        "next-token training: Headway has no preferences or rewards",
        """advantage_estimator beta center_rewards_coefficient cpo_alpha desirable_weight
        discopop_tau dpo dpo_beta dpo_generate_during_eval dpo_ftx dpo_label_smoothing
        dpo_loss_type dpo_loss_weights dpo_norm_loss dpo_padding_free dpo_use_liger_kernel
        dpo_use_logits_to_keep dpo_use_weighting ebft epsilon_high f_alpha_divergence_coef
        f_divergence_type gamma gae_lambda importance_sampling_level kl_coef kto_chosen_weight
        kto_desirable_weight kto_rejected_weight kto_undesirable_weight ld_alpha loss_weights
        max_completion_length num_generations orpo_alpha pref_bco_weight pref_beta pref_ftx
        pref_loss ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards
        precompute_ref_batch_size precompute_ref_log_probs process_reward_model ref_model
        ref_model_adapters ref_model_mixup_alpha ref_model_quantization_bit
        ref_model_sync_steps reward_funcs reward_model reward_model_adapters reward_model_path
        reward_model_quantization_bit reward_model_type reward_weights rl rl_beta rlhf_type
        rpo_alpha scale_rewards simpo_gamma sync_ref_model trl undesirable_weight use_vllm
        use_weighting vllm vllm_config vllm_enforce_eager vllm_gpu_util vllm_max_lora_rank
        vllm_maxlen vllm_mode vllm_server_host vllm_server_port num_labels alignment_coef""",
    ),
    not_here(
        "text only",
        """audio_sampling_rate crop_to_patches freeze_multi_modal_projector freeze_vision_tower
        image_column image_do_pan_and_scan image_max_pixels image_min_pixels
        image_resize_algorithm image_size lang processor_kwargs processor_type role_boundaries
        use_audio_in_video video_fps video_max_pixels video_maxlen video_min_pixels
        vision_all_linear finetune_vision_layers is_multimodal multimodal""",
        values={"true": missing("text only", decides=True)},
    ),
    not_here(
        "plain epochs over all rows",
        "max_steps_per_epoch steps_per_epoch max_iters_per_epoch limit_train_batches "
        "dataset_repeat repeat replay_buffer_size",
        lines=(("max_steps", "100"),),
    ),
    # programs around training
    not_here(
        "headway chat and headway generate, after training",
        """do_sample gradio_max_new_tokens gradio_server_name gradio_server_port gradio_share
        gradio_temperature gradio_title infer_backend length_penalty max_new_tokens min_p
        num_beams repetition_penalty sglang_config sglang_lora_backend sglang_maxlen
        sglang_mem_fraction sglang_tp_size skip_special_tokens temperature top_k top_p
        presence_penalty""",
        decides=False,
    ),
    not_here(
        "nothing is imported besides the model's own code, with trust_remote_code",
        "callbacks custom_module module plugin plugins user_dir py_script hooks",
    ),
)
