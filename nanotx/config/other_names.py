"""Names that users of nanoGPT, nanochat, litgpt and Hugging Face's Trainer type, and what they are called here."""

import re
from collections.abc import Collection

NANOGPT = (
    ("--n_layer=4", "--model.layers 4", ""),
    ("--n_head=4", "--attention.heads 4", ""),
    ("--n_embd=128", "--model.dim 128", ""),
    ("--block_size=64", "--model.context 64", ""),
    ("--dropout=0.2", "--attention.dropout 0.2 --block.dropout 0.2 --model.dropout 0.2", "three places, three fields"),
    ("--bias=True", "--attention.bias --attention.out-bias --ffn.bias --norm.bias", ""),
    ("--batch_size=12", "--train.batch-size 12", "sequences of a whole step; nanoGPT's is one of a micro-batch"),
    ("--gradient_accumulation_steps=4", "--train.grad-accum-steps 4", "splits the batch; nanoGPT's multiplies it"),
    (
        "--max_iters=2000",
        "--train.steps 2000",
        "or a [budget](comparing.md#equal-what) of tokens, bytes, FLOPs or seconds",
    ),
    (
        "torch.manual_seed(1337 + seed_offset)",
        "--seed 1337",
        "weights, order of the data and dropout may each have one: `--weights-seed`, `--data-seed`, `--dropout-seed`",
    ),
    ("--learning_rate=1e-3", "--optimizer.lr 1e-3", ""),
    ("--weight_decay=0.1", "--optimizer.weight-decay 0.1", ""),
    ("--beta1=0.9 --beta2=0.99", "--optimizer.betas 0.9 0.99", ""),
    ("--grad_clip=1.0", "--train.grad-clip 1.0", ""),
    ("--warmup_iters=100", "--schedule.warmup 100", ""),
    ("--min_lr=1e-4", "--schedule.final 0.1", "a factor of the learning rate, not a rate"),
    ("--decay_lr=False", "--schedule constant", ""),
    ("--lr_decay_iters=2000", "", "the decay ends with the run"),
    ("--eval_interval=250", "--train.eval-every 250", ""),
    (
        "--eval_iters=200",
        "--train.eval-tokens 200000",
        "the same windows each time, the whole text by default; nanoGPT draws random batches",
    ),
    ("--log_interval=1", "", "every step is in `metrics.jsonl`"),
    ("--always_save_checkpoint=False", "--train.checkpoint-every 500", "the two newest are kept, and the best"),
    ("--out_dir=out", "--run out", ""),
    ("--dataset=shakespeare_char", "--corpus tiny_shakespeare", ""),
    ("--device=cpu", "--device cpu", ""),
    ("--dtype=float32", "--dtype float32", ""),
    ("--compile=False", "--no-compile", "by default where it pays"),
)
"""nanoGPT's flags with a value, what they are here, and what differs: the table of `docs/from_nanogpt.md`."""


OTHERS: dict[str, tuple[str, ...]] = {
    "train.steps": (
        *("max_steps", "iters", "iterations", "num_iterations", "num_steps", "n_steps", "max_iter"),
        *("training_steps", "train_steps", "total_steps"),
    ),
    "train.tokens": ("total_tokens", "train_tokens", "token_budget", "num_train_tokens", "max_train_tokens"),
    "train.flops": ("target_flops", "flop_budget", "total_flops", "max_flops"),
    "train.seconds": ("max_time", "time_limit", "time_budget", "max_seconds", "max_wall_time", "train_seconds"),
    "train.batch_size": (
        *("batch", "bs", "bsz", "b", "global_batch_size", "total_batch_size", "per_device_train_batch_size"),
        *("train_batch_size",),
    ),
    "train.micro_batch_size": ("device_batch_size", "micro_batch"),
    "train.grad_accum_steps": ("grad_accum", "accumulate", "accum"),
    "train.eval_every": ("eval_steps", "eval_freq", "interval", "val_every", "valid_every"),
    "train.sample_every": ("sample_interval", "sample_freq"),
    "train.checkpoint_every": (*("save_every", "save_steps", "save_interval", "checkpoint_interval", "save_freq"),),
    "train.eval_tokens": ("eval_batches", "max_eval_iters"),
    "train.grad_clip": ("max_grad_norm", "clip", "max_norm", "gradient_clip_val", "clip_grad_norm"),
    "train.ema_decay": ("ema",),
    "train.activation_checkpointing": ("gradient_checkpointing", "checkpoint_activations"),
    "model.layers": ("n_layers", "num_layers", "num_hidden_layers", "depth", "nlayers"),
    "model.dim": (
        *("d_model", "hidden_size", "model_dim", "width", "emb_dim", "embed_dim", "embedding_dim", "hidden"),
        *("n_embed", "dmodel"),
    ),
    "model.context": (
        *("max_seq_len", "seq_len", "sequence_length", "seq_length", "context_length", "ctx", "n_ctx"),
        *("max_position_embeddings", "max_seq_length", "window", "context_size"),
    ),
    "model.tied": ("tie_weights", "tie_word_embeddings", "weight_tying", "tie_embeddings"),
    "attention.heads": ("n_heads", "num_heads", "num_attention_heads", "nhead", "head"),
    "attention.head_dim": ("d_head", "head_size", "head_width", "kv_channels"),
    "attention.kv_heads": ("n_kv_head", "n_kv_heads", "num_kv_heads", "num_key_value_heads", "n_query_groups"),
    "ffn.hidden_dim": ("intermediate_size", "ff_dim", "d_ff", "dim_feedforward", "mlp_dim", "ffn_dim"),
    "optimizer.lr": ("max_lr", "base_lr", "matrix_lr", "peak_lr"),
    "optimizer.betas": ("adam_beta1", "adam_beta2"),
    "optimizer.weight_decay": ("wd", "decay_weight"),
    "optimizer.eps": ("adam_epsilon",),
    "schedule.warmup": ("warmup_steps", "lr_warmup_steps", "num_warmup_steps", "warmup"),
    "schedule.final": ("final_lr_frac", "end_lr"),
    "schedule": ("lr_scheduler_type", "lr_scheduler", "scheduler", "lr_schedule"),
    "optimizer": ("optim", "opt"),
    "corpus": (
        *("data", "data_dir", "data_path", "text", "file", "input", "input_file", "train_file", "txt"),
        *("text_file", "files"),
    ),
    "text": ("corpus", "file", "data", "input", "val", "validation"),
    "step": ("checkpoint", "ckpt", "iter"),
    "run": ("output_dir", "out", "output", "name", "run_name", "exp_name", "save_dir", "logdir", "log_dir"),
    "dtype": ("precision", "bf16", "fp16", "amp", "torch_dtype", "half"),
    "device": ("gpu", "cpu", "cuda", "mps", "accelerator"),
    "threads": ("num_threads", "num_workers", "workers", "n_threads"),
    "seed": ("random_seed", "rng_seed", "manual_seed"),
    "weights_seed": ("init_seed", "model_seed", "weight_seed", "seed_weights"),
    "data_seed": ("shuffle_seed", "batch_seed", "seed_data"),
    "dropout_seed": ("mask_seed", "seed_dropout"),
    "resume": ("resume_from_checkpoint", "continue"),
    "callback": ("wandb", "tensorboard", "logger", "report_to"),
    "position.theta": ("rope_theta", "rope_base", "rotary_base"),
    "position": ("pos", "pos_emb", "positional_encoding", "pe", "position_embedding_type"),
    "ffn": ("mlp", "activation", "act", "activation_function", "hidden_act", "ff"),
    "attention": ("attn", "attn_implementation"),
    "prompt": ("start", "text", "input", "p"),
    "max_new_tokens": ("max_tokens", "length", "n", "tokens", "num_tokens", "max_length", "n_tokens", "len"),
    "best_of": ("num_samples", "num_return_sequences", "samples", "n_samples"),
    "temperature": ("temp", "t"),
}
"""A flag of ours, and what it is called elsewhere. A name may stand twice, for a recipe and for another command."""


def nanogpt_names() -> dict[str, tuple[str, ...]]:
    """Return nanoGPT's names of our flags, from the rows of `NANOGPT` in which a flag of ours has another name."""
    names: dict[str, tuple[str, ...]] = {}
    for theirs, ours, _ in NANOGPT:
        for flag in re.findall(r"--(?:no-)?([\w.-]+)", ours)[:1]:
            name = flag.replace("-", "_")
            last = name.rpartition(".")[2]
            names[name] = (*names.get(name, ()), *(other for other in re.findall(r"--(\w+)=", theirs) if other != last))
    return {flag: others for flag, others in names.items() if others}


FLAGS = {flag: (*nanogpt_names().get(flag, ()), *OTHERS.get(flag, ())) for flag in OTHERS | nanogpt_names()}
"""All other names of a flag of ours."""

REMARKS = {
    ("epochs", "num_epochs", "num_train_epochs", "epoch", "max_epochs", "n_epochs"): (
        "nanotx counts steps: --train.steps N. One pass over the text takes its tokens / (batch size x context) steps."
    ),
    ("init_from",): (
        "A run is continued by nanotx resume RUN; --init RUN begins with the weights of another, which nanotx import "
        "makes of GPT-2's."
    ),
    ("lr_decay_iters", "decay_iters", "max_lr_steps"): "The schedule always spans --train.steps.",
    ("log_interval", "logging_steps", "log_every", "log_freq"): "Every step is logged, in metrics.jsonl of the run.",
    ("wandb_log", "wandb_project", "wandb_run_name"): (
        "metrics.jsonl of the run has every figure; --callback NAME sends them elsewhere."
    ),
    ("eval_only",): "A run is evaluated by nanotx eval RUN.",
    ("prompt", "start", "temperature", "temp", "top_k", "top_p", "max_new_tokens", "num_samples", "sample"): (
        "It is for a run that has been trained: nanotx sample RUN --prompt TEXT."
    ),
    ("verbose", "quiet", "silent", "debug", "progress"): (
        "Training prints a line every few seconds; > log.txt sends them to a file, and the run's folder has everything."
    ),
    ("backend", "ddp", "nproc_per_node", "num_gpus", "devices", "ngpus", "fsdp"): "nanotx trains in one process.",
    ("model", "model_name_or_path", "model_name", "config", "model_type", "arch"): (
        "A model is part of a recipe: nanotx train NAME or FILE.toml, before the flags; nanotx train --help lists them."
    ),
    ("out_dir", "run", "checkpoint", "ckpt", "checkpoint_dir", "model_path", "folder"): (
        "The run is given by its folder, without a flag, such as runs/shakespeare_char-1."
    ),
    ("plot",): "nanotx show RUN plots a run.",
}
"""What to do where no flag has the meaning of a name."""

VALUES = {
    "gpu": "cuda",
    "nvidia": "cuda",
    "metal": "mps",
    "fp16": "float16",
    "half": "float16",
    "f16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "16": "float16",
    "32": "float32",
}
"""A value that is called otherwise here."""

PARTS = {
    "attention": {
        **dict.fromkeys(("multihead", "multi_head", "mha", "flash", "flash_attention", "sdpa_flash"), "sdpa"),
        **dict.fromkeys(("mqa", "grouped_query", "multiquery"), "gqa"),
        **dict.fromkeys(("local", "window", "swa"), "sliding_window"),
        "vanilla": "per_head",
    },
    "ffn": dict.fromkeys(("gelu", "relu", "gpt2", "feedforward"), "mlp") | dict.fromkeys(("silu", "glu"), "swiglu"),
    "norm": {"layer_norm": "layernorm", "ln": "layernorm", "rms": "rmsnorm", "rms_norm": "rmsnorm"},
    "position": {"absolute": "learned", "rotary": "rope", "sin": "sinusoidal", "nope": "none", "relative": "alibi"},
    "optimizer": {"adam": "adamw", "adam_w": "adamw"},
    "schedule": {"linear": "wsd", "trapezoid": "wsd", "none": "constant", "cosine_with_warmup": "cosine"},
    "tokenizer": {"gpt2": "tiktoken", "character": "char", "characters": "char", "sentencepiece": "unigram"},
    "corpus": {"shakespeare": "tiny_shakespeare", "shakespeare_char": "tiny_shakespeare", "text": "file"},
    "embedding": {"token": "tokens", "ngram": "ngrams"},
}
"""A part that is called otherwise here, by slot."""

COMMANDS = {
    **dict.fromkeys(("generate", "gen", "write", "complete", "prompt", "infer"), "sample RUN"),
    **dict.fromkeys(("plot", "curves", "dashboard", "graph"), "show RUN"),
    **dict.fromkeys(("evaluate", "test", "validate", "score", "perplexity"), "eval RUN"),
    **dict.fromkeys(("run", "fit", "start", "learn", "pretrain", "finetune"), "train NAME"),
    **dict.fromkeys(("continue", "restart"), "resume RUN"),
    **dict.fromkeys(("list", "ls", "recipes", "presets", "models"), "train --help"),
    **dict.fromkeys(("info", "env", "machine", "system", "status"), "doctor"),
    **dict.fromkeys(("check", "fsck"), "verify RUN"),
    **dict.fromkeys(("encode", "decode", "tokenize"), "tokenizer encode TOKENIZER FILE"),
    **dict.fromkeys(("parts", "slots", "glossary", "what", "define", "docs"), "explain WORD"),
}
"""A command that is called otherwise here."""


def nanogpt_table() -> str:
    """Return `NANOGPT` as a table in Markdown."""
    rows = [[f"`{theirs}`", f"`{ours}`" if ours else "", note] for theirs, ours, note in NANOGPT]
    lines = [f"| {' | '.join(row)} |".replace("  ", " ") for row in rows]
    return "\n".join(["| nanoGPT | nanotx | what differs |", "|---|---|---|", *lines])


def our_flag(name: str, known: Collection[str]) -> str:
    """Return the known flag that is called `name` elsewhere; empty where there is none."""
    return next((flag for flag, others in FLAGS.items() if name in others and flag in known), "")


def remark(name: str) -> str:
    """Return what to do in place of a flag that has no equal here, after a space; empty where that is unknown."""
    return next((f" {text}" for names, text in REMARKS.items() if name in names), "")
