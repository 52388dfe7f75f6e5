"""Numbers out of range in any field of a recipe: negative, zero, huge, non-finite, or not a number."""

import sys

from reliability.bad_input import BadInput, having
from reliability.specimens import training

HUGE, ENDLESS = str(10**12), str(10**30)
POSITIVE = "expected a number of at least 1, got"
FINITE = "expected a finite number, got"
LONG = r"expected a number of at least [01] and below 2\*\*63, got 10{30}"
SHARE = "expected a fraction from 0 up to but not including 1, got"
WHOLE = "expected a whole number"
GPU = "mps" if sys.platform != "darwin" else "cuda"

# Flag, value, output.
NUMBERS = [
    ("train.steps", "0", rf"train\.steps: {POSITIVE} 0"),
    ("train.steps", "-3", rf"train\.steps: {POSITIVE} -3"),
    ("train.steps", "10k", rf"--train\.steps.*({WHOLE})"),
    ("train.steps", "1.5", rf"--train\.steps.*({WHOLE})"),
    ("train.steps", "nan", rf"--train\.steps.*({WHOLE})"),
    ("train.steps", ENDLESS, rf"train\.steps: {LONG}"),
    ("train.batch-size", "0", rf"train\.batch_size: {POSITIVE} 0"),
    ("train.batch-size", HUGE, r"train\.batch_size: expected a number of at most 16,777,216, got 1000000000000"),
    ("train.grad-accum-steps", "3", r"train\.grad_accum_steps: 3 does not divide batch_size=2; try one of \[1, 2\]"),
    ("train.grad-accum-steps", "-1", rf"train\.grad_accum_steps: {POSITIVE} -1"),
    ("train.micro-batch-size", "3", r"train\.micro_batch_size: 3 does not divide batch_size=2; try one of \[1, 2\]"),
    ("train.micro-batch-size", "-2", r"train\.micro_batch_size: -2 does not divide batch_size=2; try one of"),
    ("train.micro-batch-size", "half", r"--train\.micro-batch-size.*auto"),
    ("train.sample-tokens", HUGE, r"train\.sample_tokens: expected a number of at most 16,777,216"),
    ("train.eval-every", "-1", r"train\.eval_every: expected a number of at least 0, got -1"),
    ("train.checkpoint-every", "-1", r"train\.checkpoint_every: expected a number of at least 0, got -1"),
    ("train.loss-chunk-size", "-1", r"train\.loss_chunk_size: expected a number of at least 0, got -1"),
    ("train.grad-clip", "-1", r"train\.grad_clip: expected a number of at least 0, got -1"),
    ("train.grad-clip", "inf", rf"train\.grad_clip: {FINITE} inf"),
    ("loss.z-loss", "nan", rf"loss\.z_loss: {FINITE} nan"),
    ("train.ema-decay", "1", rf"train\.ema_decay: {SHARE} 1"),
    ("train.on-nonfinite", "ignore", r"--train\.on-nonfinite.*raise.*skip"),
    ("optimizer.lr", "-1", r"optimizer\.lr: expected a number of at least 0, got -1"),
    ("optimizer.lr", "nan", rf"optimizer\.lr: {FINITE} nan"),
    ("optimizer.lr", "1e999", rf"optimizer\.lr: {FINITE} inf"),
    ("optimizer.lr", "1e30", r"optimizer\.lr: expected a number of at most 1,000,000, got 1e\+30"),
    ("optimizer.lr", "fast", r"--optimizer\.lr: expected a number"),
    ("optimizer.iterations", HUGE, r"optimizer\.iterations: expected a number of at most 100"),
    ("optimizer.momentum", "1", rf"optimizer\.momentum: {SHARE} 1"),
    ("optimizer.betas", "0.9", r"--optimizer\.betas.*2"),
    ("schedule.warmup", "-1", r"schedule\.warmup: expected a number of at least 0, got -1"),
    ("schedule.decay", "2", r"schedule\.decay: expected a number from 0 to 1, got 2"),
    ("schedule.decay", "nan", rf"schedule\.decay: {FINITE} nan"),
    ("model.dim", "0", rf"model\.dim: {POSITIVE} 0"),
    ("model.dim", "-16", rf"model\.dim: {POSITIVE} -16"),
    ("model.dim", "16.5", rf"--model\.dim.*({WHOLE})"),
    ("model.dim", "10**9", rf"--model\.dim.*({WHOLE})"),
    ("model.dim", str(10**9), r"model\.dim: expected a number of at most 1,048,576, got 1000000000"),
    ("model.dim", "1048576", r"model: [\d,]+ weights .*take at least [\d,.]+ GiB, and .* are free; try less than dim="),
    ("model.dim", ENDLESS, rf"model\.dim: {LONG}"),
    ("model.layers", "0", rf"model\.layers: {POSITIVE} 0"),
    ("model.layers", str(10**9), r"model\.layers: expected a number of at most 10,000, got 1000000000"),
    ("model.context", "0", rf"model\.context: {POSITIVE} 0"),
    ("model.context", HUGE, r"model\.context: expected a number of at most 2,147,483,648, got 1000000000000"),
    ("model.dropout", "1", rf"model\.dropout: {SHARE} 1"),
    ("model.dropout", "-0.1", rf"model\.dropout: {SHARE} -0\.1"),
    ("model.softcap", "-1", r"model\.softcap: expected a number of at least 0, got -1"),
    ("model.softcap", "1e300", r"model\.softcap: expected a number of at most 1,000,000, got 1e\+300"),
    ("model.tied", "perhaps", r"'perhaps': unexpected argument"),
    ("attention.heads", "0", rf"attention\.heads: {POSITIVE} 0"),
    ("attention.heads", "3", r"blockwise: heads=3 do not divide dim=16; try heads from \[1, 2, 4, 8, 16\]"),
    ("attention.heads", "16", r"rope: heads of width 1 have no pairs of channels; try heads from \[1, 2, 4, 8\]"),
    ("attention.heads", str(10**9), r"attention\.heads: expected a number of at most 4,096"),
    ("attention.dropout", "1.5", rf"attention\.dropout: {SHARE} 1\.5"),
    ("ffn.hidden_dim", "0", rf"ffn\.hidden_dim: {POSITIVE} 0"),
    ("ffn.hidden_dim", HUGE, r"ffn\.hidden_dim: expected a number of at most 16,777,216"),
    ("embedding.buckets", "0", rf"embedding\.buckets: {POSITIVE} 0"),
    ("embedding.max_n", "99", r"embedding\.max_n: expected a number up to 8, got 99"),
    ("position.theta", "0.5", r"position\.theta: expected a number of at least 1, got 0\.5"),
    ("norm.eps", "-1e-6", r"norm\.eps: expected a number of at least 0, got -1e-06"),
    ("seed", "-1", r"seed: expected a number of at least 0, got -1"),
    ("seed", ENDLESS, rf"seed: {LONG}"),
    ("threads", "-1", r"threads: expected a number of at least 0, got -1"),
    ("threads", str(10**9), r"threads: expected a number of at most 1,024, got 1000000000"),
    ("device", "tpu", r"--device.*auto.*cpu.*cuda.*mps"),
    ("device", GPU, r"device: expected .* GPU, and torch sees none; try --device cpu"),
    ("dtype", "float8", r"--dtype.*float32.*bfloat16"),
    ("dtype", "float16", r"dtype: float16 does not train on a CPU; try --dtype bfloat16 or float32"),
    ("compile", "perhaps", r"--compile.*auto"),
    ("corpus.validation", "1", rf"corpus\.validation: {SHARE} 1"),
    ("corpus.validation", "-0.5", rf"corpus\.validation: {SHARE} -0\.5"),
    ("corpus.validation", "nan", rf"corpus\.validation: {FINITE} nan"),
]


def numbers() -> list[BadInput]:
    """Return each of them as a flag of a run of a second."""
    shifts = BadInput(
        name="--block token_shift --block.shifts 1000000000",
        argv=training("--block", "token_shift", "--block.shifts", str(10**9)),
        code=2,
        says=r"block\.shifts: expected a number of at most 1,024",
        prepare=having(),
    )
    return [
        shifts,
        *(
            BadInput(
                name=f"--{flag} {value if len(value) < 20 else value[0] + '0' * 3 + '...'}",
                argv=training(**{flag.replace("-", "_").replace(".", "_", 1): value}),
                code=2,
                says=says,
                prepare=having(),
            )
            for flag, value, says in NUMBERS
        ),
    ]
