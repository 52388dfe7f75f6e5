"""The history of a run, built from the rows of its metrics log."""

import math

from nanotx.runs.metrics_log import Row

OWN_KEYS = {"event", "step", "loss", "grad_norm", "lr", "tokens_per_second", "nonfinite"}
"""Keys of a step's row that every run has; the others are metrics that parts or callbacks added."""


EVAL_KEYS = {
    *("event", "step", "train_loss", "val_loss", "train_bits_per_byte", "bits_per_byte", "perplexity", "val_stderr"),
    *("val_tokens", "train_tokens", "eval_tokens", "wall_seconds", "nonfinite"),
}
"""Keys of an evaluation's row that every run has."""


class History:
    """The history of a run so far."""

    def __init__(self) -> None:
        self.title, self.steps, self.tokens = "", 1, 0
        self.floor: float | None = None
        self.step: Row = {}
        self.metrics: Row = {}  # the newest value of each metric that parts or callbacks added
        self.sample: Row = {}
        self.evals: list[Row] = []
        self.losses: list[float] = []
        self.speed, self.warning = 0.0, ""

    def take(self, row: Row) -> None:
        """Add a row."""
        event = row["event"]
        if event in ("start", "resume"):
            self.title, self.steps, self.tokens = row["title"], row["steps"], row["tokens_per_step"]
            self.floor = row.get("floor")
        elif event == "step":
            self.step = row
            self.metrics |= {key: value for key, value in row.items() if key not in OWN_KEYS}
            if row["loss"] is not None and math.isfinite(row["loss"]):
                self.losses.append(row["loss"])
            speed = row["tokens_per_second"]
            self.speed = 0.95 * self.speed + 0.05 * speed if self.speed else speed
        elif event == "eval":
            self.evals.append(readable(row))
            self.metrics |= {key: value for key, value in row.items() if key not in EVAL_KEYS}
        elif event == "warning":
            self.warning = row["text"]
        elif event == "sample":
            self.sample = row

    def status(self) -> str:
        """Return a line about the newest step: mean loss of 20 steps, tokens per second, time left."""
        last = self.losses[-20:] or [math.nan]
        left = (self.steps - self.step["step"]) * self.tokens / self.speed if self.speed else 0.0
        return f"loss {sum(last) / len(last):.3f}  {self.speed:,.0f} tokens/s  {clock(left)} left"

    def metrics_line(self, most: int = 6) -> str:
        """Return the newest metrics that parts or callbacks added, in one line; "" if there are none."""
        shown = [f"{key} {metric(value)}" for key, value in list(self.metrics.items())[:most]]
        more = len(self.metrics) - len(shown)
        return "  ".join([*shown, *([f"and {more} more"] if more else [])])


def metric(value: object) -> str:
    """Return a metric in a few characters."""
    return f"{value:.4g}" if isinstance(value, float) else "not finite" if value is None else f"{value!s:.40}"


def readable(row: Row) -> Row:
    """Return an evaluation with NaN in place of each null that stands for a non-finite number."""
    lost = {"train_loss", "val_loss", *row.get("nonfinite", [])}
    return row | {key: math.nan for key in lost if row.get(key, 0.0) is None}


def rate(bits: float | None) -> str:
    """Format bits per byte; "refused" if the tokenizer does not round-trip the text."""
    return "refused" if bits is None else f"{bits:.4f}"


def gap(row: Row) -> float:
    """Return validation loss minus training loss, in nats per token."""
    return float(row["val_loss"] - row["train_loss"])


def error(row: Row) -> str:
    """Format the standard error of the validation loss; "" if it is unknown."""
    return "" if row.get("val_stderr") is None else f" ± {row['val_stderr']:.4f}"


def extent(row: Row) -> str:
    """Format the number of validation tokens of an evaluation; "" if it was not recorded."""
    if row.get("val_tokens") is None:
        return ""
    return (
        f"  (all {row['val_tokens']:,} tokens)" if not row.get("eval_tokens") else f"  ({row['val_tokens']:,} tokens)"
    )


def clock(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
