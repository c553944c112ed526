"""What may lie in a base model's folder and in its config.json: data we know, nothing that names code.

`trust_remote_code=False` is no boundary: CVE-2026-4372 ran code by way of `_attn_implementation_internal`,
CVE-2026-5241 and CVE-2026-22807 by way of nested `trust_remote_code` and `auto_map`. So names and keys are allowed
one by one.
"""

import re

WEIGHTS_FILE = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
CHAT_TEMPLATE_FILES = frozenset({"chat_template.jinja", "chat_template.json"})
# Objects whose keys transformers acts upon; the keys of the others are words of a vocabulary.
SETTINGS_FILES = frozenset({CONFIG_FILE, "generation_config.json", TOKENIZER_CONFIG_FILE, "special_tokens_map.json"})
VOCABULARY_FILES = frozenset({TOKENIZER_FILE, "added_tokens.json", "vocab.json"})
# Beside a sentence encoder: what its library would do with the hidden states. Only the pooling is read by us.
MODULES_FILE = "modules.json"
POOLING_FOLDER = "1_Pooling"
POOLING_FILE = f"{POOLING_FOLDER}/config.json"
SENTENCE_FILES = frozenset({"config_sentence_transformers.json", "sentence_bert_config.json", POOLING_FILE})
JSON_FILES = SETTINGS_FILES | VOCABULARY_FILES | SENTENCE_FILES | {INDEX_FILE, "chat_template.json", MODULES_FILE}
TEXT_FILES = frozenset({"merges.txt", "vocab.txt", "chat_template.jinja"})
# May lie in the folder; read by people, not by us.
PAPERS = re.compile(r"(README|NOTICE|USE_POLICY|LICEN[CS]E)([._-][A-Za-z0-9._-]*)?|\.gitattributes")

_CONFIG_KEYS = """
_model_name_or_path _name_or_path _remove_final_layer_norm _sliding_window_pattern activation_function
add_cross_attention architectures attention_bias attention_dropout attention_multiplier attn_logit_softcapping
attn_pdrop bos_token_id chunk_size_feed_forward classifier_dropout clip_qkv do_layer_norm_before dropout dtype
embd_pdrop embedding_dropout embedding_multiplier enable_bias eos_token_id ffn_dim final_logit_softcapping
head_dim hidden_act hidden_activation hidden_dropout hidden_size id2label init_std initializer_range
intermediate_size is_decoder is_encoder_decoder is_llama_config keys_to_ignore_at_inference label2id
layer_norm_elementwise_affine layer_norm_eps layer_norm_epsilon layer_types layerdrop logit_scale logits_scaling
max_position_embeddings max_window_layers mlp_bias model_type no_rope_layer_interval no_rope_layers norm_epsilon
num_attention_heads num_hidden_layers num_key_value_heads original_max_position_embeddings output_attentions
output_hidden_states pad_token_id partial_rotary_factor prefix pretraining_tp problem_type qk_layernorm
query_pre_attn_scalar resid_pdrop residual_dropout residual_multiplier return_dict rms_norm_eps rope_interleaved
rope_local_base_freq rope_parameters rope_scaling rope_theta rotary_emb_base rotary_pct sliding_window
sliding_window_pattern tie_word_embeddings torch_dtype transformers_version unk_token_id use_bias
use_bidirectional_attention use_cache use_mrope use_parallel_residual use_qkv_bias use_sliding_window vocab_size
word_embed_proj_dim
"""
_ENCODER_KEYS = """
activation attention_probs_dropout_prob classifier_activation classifier_bias classifier_pooling cls_token_id
decoder_bias deterministic_flash_attn dim embedding_size global_attn_every_n_layers global_rope_theta
gradient_checkpointing hidden_dim hidden_dropout_prob initializer_cutoff_factor local_attention local_rope_theta
mlp_dropout n_heads n_layers norm_bias norm_eps output_past position_embedding_type qa_dropout sep_token_id
seq_classif_dropout sinusoidal_pos_embds sparse_pred_ignore_index sparse_prediction summary_activation
summary_last_dropout summary_type summary_use_proj tie_weights_ type_vocab_size
"""
# Some say how the published model was decoded (beams, lengths); a run here has settings of its own.
_ENCODER_DECODER_KEYS = """
_num_labels activation_dropout add_bias_logits add_final_layer_norm bad_words_ids classif_dropout d_ff d_kv d_model
decoder_attention_heads decoder_ffn_dim decoder_layerdrop decoder_layers decoder_start_token_id decoder_vocab_size
dense_act_fn dropout_rate early_stopping encoder_attention_heads encoder_ffn_dim encoder_layerdrop encoder_layers
encoder_no_repeat_ngram_size extra_pos_embeddings feed_forward_proj force_bos_token_to_be_generated forced_bos_token_id
forced_eos_token_id initializer_factor is_gated_act length_penalty max_length min_length n_positions
no_repeat_ngram_size normalize_before normalize_embedding num_beams num_decoder_layers num_heads num_layers
relative_attention_max_distance relative_attention_num_buckets save_step scale_decoder_outputs scale_embedding
share_encoder_decoder_embeddings static_position_embeddings task_specific_params
"""
CONFIG_KEYS = frozenset((_CONFIG_KEYS + _ENCODER_KEYS + _ENCODER_DECODER_KEYS).split())

# Refused at any depth of any settings file.
CODE_KEY = re.compile(
    r"auto_map|auto_mapping|custom_pipelines|trust_remote_code|_attn_implementation.*|_?code_revision|parent_library"
)
