"""The tables of the pages that are made from the files in `benchmarks/results`: a function each, head and rows."""

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]
Table = tuple[list[str], list[list[str]]]


def where(rows: Rows, **wanted: object) -> dict[str, Any]:
    """Return the one row that has these values; without one, an empty row."""
    matching = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    if len(matching) > 1:
        raise ValueError(f"claims: {len(matching)} rows have {wanted}")
    return matching[0] if matching else {}


def attention(rows: Rows) -> Table:
    """Time of each attention forward and backward, in two formats, and memory of a long text."""
    head = ["attention", "float32: ms", "x `sdpa`", "bfloat16: ms", "x `sdpa`", "tokens/s", "MB at 1k, 2k, 4k", "laws"]
    first = ["sdpa", "raw_torch", "torch_mha", "blockwise", "fused", "per_head", "online_softmax"]
    lines = []
    for name in [*first, "gqa", "sliding_window", "linear", "flex"]:
        wide, narrow = (
            where(rows, name=name, shape="baby", dtype=dtype, **{"pass": "forward+backward"})
            for dtype in ("float32", "bfloat16")
        )
        if wide["laws"] != "pass":
            lines.append([f"`{name}`", *["-"] * 6, wide["laws"]])
            continue
        long = [where(rows, name=name, shape=f"{k}k", dtype="float32", **{"pass": "forward"}) for k in (1, 2, 4)]
        times = [
            f"{row[key]:{spec}}" for row in (wide, narrow) for key, spec in (("median_ms", ".1f"), ("ratio", ".2f"))
        ]
        memory = ", ".join(f"{row['memory_mb']:.0f}" for row in long)
        lines.append(
            [f"`{name}`", *times, f"{narrow['tokens_per_second']:,.0f}", memory, f"pass, {wide['cases']} cases"]
        )
    return head, lines


CONTENDERS = {
    "nanotx_plain": "`nanotx_plain`",
    "nanotx": "nanotx, compiled",
    "nanotx_blockwise": "nanotx, compiled, `blockwise`",
    "transformers": "Hugging Face `GPT2LMHeadModel`",
    "transformers_compiled": "the same, compiled",
    "x_transformers": "`x-transformers`",
    "torch_encoder": "`torch.nn.TransformerEncoder`",
}


def training(macbook: Rows, baby: Rows, labels: dict[str, str] = CONTENDERS) -> Table:
    """Speed of a training step beside other libraries, without and with dropout."""
    columns = ["`macbook` (4 x 128): tokens/s", "x plain", "share of the peak"]
    columns += ["`baby_gpt` (6 x 384): tokens/s", "x plain", "share of the peak"]
    lines = []
    for name, label in labels.items():
        cells = [label]
        for rows in (macbook, baby):
            pair = [row for dropout in (0.0, 0.2) if (row := where(rows, name=name, dropout=dropout))]
            cells.append("; ".join(f"{row['tokens_per_second']:,.0f}" for row in pair))
            cells.append("1" if name == "nanotx_plain" else "; ".join(f"{row['speedup']:.2f}" for row in pair))
            cells.append("; ".join(f"{row['mfu']:.0%}" for row in pair))
        lines.append(cells)
    return ["dropout 0 and 0.2", *columns], lines


def training_bfloat16(macbook: Rows, baby: Rows) -> Table:
    """The same where the processor multiplies bfloat16; ours decides for itself what is compiled."""
    labels = CONTENDERS | {"nanotx": "nanotx", "nanotx_blockwise": "nanotx, `blockwise`"}
    return training(macbook, baby, {name: f"{label}: {formats(name, macbook, baby)}" for name, label in labels.items()})


def formats(name: str, *tables: Rows) -> str:
    """The format of numbers of a contender, and of which recipes it is compiled where that differs."""
    rows = [row for table in tables if (row := where(table, name=name, dropout=0.0))]
    compiled = [row["shape"] for row in rows if row["compiled"]]
    of = f", `{'`, `'.join(compiled)}` compiled" if name.startswith("nanotx") and compiled else ""
    return rows[0]["dtype"] + of


def speed(macbook: Rows, baby: Rows, macbook_bfloat16: Rows, baby_bfloat16: Rows) -> Table:
    """The same without dropout, in short, on both kinds of processors."""
    groups = {
        "plain eager PyTorch in float32, as nanoGPT on a CPU": ["nanotx_plain"],
        "Hugging Face, as it is; compiled": ["transformers", "transformers_compiled"],
        "x-transformers": ["x_transformers"],
        "`torch.nn.TransformerEncoder`": ["torch_encoder"],
        "nanotx, `sdpa`; `blockwise`": ["nanotx", "nanotx_blockwise"],
    }
    lines = []
    for label, names in groups.items():
        cells = [label]
        for rows in (macbook, macbook_bfloat16, baby, baby_bfloat16):
            ratios = [row["speedup"] for name in names if (row := where(rows, name=name, dropout=0.0))]
            cells.append("; ".join("1" if ratio == 1 else f"{ratio:.2f}" for ratio in ratios))
        lines.append(cells)
    kinds = [f"{recipe}: {kind}" for recipe in ("`macbook` (4 x 128)", "`baby_gpt` (6 x 384)") for kind in KINDS]
    return ["two cores, dropout 0", *kinds], lines


KINDS = ("AVX2", "AVX-512 with bfloat16")
"""The processors on which steps were timed."""


def phases(rows: Rows) -> Table:
    """Where the seconds of a whole run go, and how long it takes beside a peer's."""
    head = ["", "start", "steps", "evaluations", "samples", "checkpoints", "end", "from nothing to the last line"]
    ours, peer = rows
    cells = [f"{seconds:.1f}" for seconds in ours["phases"].values()]
    return head, [
        [f"`{ours['name']}`, seconds", *cells, f"{ours['wall_seconds']:.0f}: {ours['ratio_to_peer']:.2f} of nanoGPT's"],
        ["nanoGPT's laptop command", *[""] * len(cells), f"{peer['wall_seconds']:.0f}"],
    ]


SAMPLING = {
    "uncached": "without a cache",
    "cached": "with it, as written",
    "compiled": "compiled, from the disk",
    "int8": "compiled, weights in int8",
    "speculative": "with a draft model",
    "lookup": "with lookup",
    "batch": "32 texts at once, as written",
    "transformers": "Hugging Face `generate`, with its cache",
}


def sampling(rows: Rows) -> Table:
    """Ways of generating a text."""
    lines = []
    for name, label in SAMPLING.items():
        row = where(rows, name=name)
        share = "" if row["bandwidth_share"] is None else f"{row['bandwidth_share']:.0%}"
        lines.append([label, f"{row['median_ms']:.2f}", f"{1 / row['ratio']:.2f}", share])
    return ["500 tokens", "ms a token", "x Hugging Face", "of the memory's rate"], lines


def byte_pairs(rows: Rows) -> Table:
    """Megabytes a second of encoding and learning, on one thread."""
    head = ["text", "warm: nanotx", "`tiktoken`", "`tokenizers`", "cold: nanotx", "`tiktoken`"]
    head += ["learn: nanotx", "`rustbpe`", "`tokenizers`"]
    texts = {
        ("shakespeare", 1.115394): "Tiny Shakespeare, 1.1 MB",
        ("ascii", 1): "sources and documents, ASCII, 1 MB",
        ("ascii", 10): "10 MB",
        ("ascii", 100): "100 MB",
        ("mixed", 1): "not all ASCII, seven scripts between, 1 MB",
        ("mixed", 10): "10 MB",
        ("mixed", 100): "100 MB",
    }
    columns: list[tuple[str, str | None, str]] = [
        ("encode", "warm", name) for name in ("nanotx", "tiktoken", "tokenizers")
    ]
    columns += [("encode", "cold", name) for name in ("nanotx", "tiktoken")]
    columns += [("learn", None, name) for name in ("nanotx", "rustbpe", "tokenizers")]
    lines = []
    for (text, size), label in texts.items():
        cells = [label]
        for task, state, name in columns:
            vocab_size = 32_768 if task == "encode" or size == 100 else 4_096
            rates = [
                row["megabytes_per_second"]
                for row in rows
                if (row["task"], row["state"], row["name"], row["text"]) == (task, state, name, text)
                and abs(row["megabytes"] - size) < 0.01
                and row["threads"] == 1
                and (task == "encode" or row["vocab_size"] == vocab_size)
            ]
            cells.append(f"{rates[0]:.{0 if rates[0] >= 10 else 1}f}" if rates else "-")
        lines.append(cells)
    return head, lines


def ablations(rows: Rows) -> Table:
    """The paired difference of the loss that each change makes, and its time."""
    names = {
        "recipe": "the recipe",
        "window_8": "each token sees the last 8 only",
        "no_qk_norm": "no norm of queries and keys",
        "mlp": "GELU for the squared ReLU",
    }
    lines = []
    for row in rows:
        change = "" if row["interval"] is None else f"{row['difference']:+.4f} ± {row['interval']:.4f}"
        flags = row["flags"] and f"`{row['flags']}`"
        lines.append(
            [
                names.get(row["name"]) or str(row["changed"]),
                flags,
                f"{row['val_loss']:.4f}",
                change,
                f"{row['step_ratio']:.2f}",
            ]
        )
    return ["changed", "flags", "validation loss", "difference", "time"], lines


def lengths(rows: Rows) -> Table:
    """Bits per byte of each position in windows longer than those of the training."""
    lines = []
    for name in sorted({row["name"] for row in rows}):
        bits = [where(rows, name=name, context=context)["bits_per_byte"] for context in (64, 128, 256)]
        lines.append([f"`{name}`", *("-" if value is None else f"{value:.4f}" for value in bits)])
    return ["position", "1x, 64", "2x, 128", "4x, 256"], lines


def second_voice(rows: Rows) -> Table:
    """Losses on the new text and on the old one after each way to learn, means of the seeds with lowest and highest."""
    lines = []
    for name, steps in dict.fromkeys((row["name"], row["steps"]) for row in rows):
        seeds = [row for row in rows if (row["name"], row["steps"]) == (name, steps)]
        cells = [name, str(steps) if steps else "", f"{seeds[0]['trained']:,}" if steps else ""]
        for key in ("loss_new", "loss_old"):
            losses = [row[key] for row in seeds]
            cells.append(f"{sum(losses) / len(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})")
        lines.append([*cells, f"{sum(row['forgotten'] for row in seeds) / len(seeds):+.3f}" if steps else ""])
    head = [
        "what learns",
        "steps",
        "weights that are trained",
        "loss on the logbook",
        "loss on Shakespeare",
        "forgotten",
    ]
    return head, lines


TABLES: dict[str, Callable[..., Table]] = {
    "attention": attention,
    "training": training,
    "training_bfloat16": training_bfloat16,
    "phases": phases,
    "sampling": sampling,
    "speed": speed,
    "byte_pairs": byte_pairs,
    "ablations": ablations,
    "lengths": lengths,
    "second_voice": second_voice,
}
