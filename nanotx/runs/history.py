"""The history of a run, built from the rows of its metrics log."""

import math
import time
from collections import deque

from nanotx.runs.metrics_log import Row

OWN_KEYS = {"event", "step", "loss", "grad_norm", "lr", "tokens_per_second", "nonfinite"}
"""Keys of a step's row that every run has; the others are metrics that parts or callbacks added."""


EVAL_KEYS = {
    *("event", "step", "train_loss", "val_loss", "train_bits_per_byte", "bits_per_byte", "perplexity", "val_stderr"),
    *("val_tokens", "train_tokens", "eval_tokens", "wall_seconds", "nonfinite"),
}
"""Keys of an evaluation's row that every run has."""


NEWEST = 20
"""Steps over which the loss and the speed on the screen are means."""

PAUSES = ("eval", "sample", "checkpoint")
"""What a run does between two steps."""


class Pace:
    """How fast a run goes and how long it still takes, from the times at which its rows come."""

    def __init__(self, start: Row | None = None, now: float = 0.0) -> None:
        """Prepare to measure.

        Args:
            start: the first row of a process; None before it came.
            now: the time at which it came, in seconds.
        """
        start = start or {}
        self.tokens, self.steps = start.get("tokens_per_step", 0), start.get("steps", 1)
        self.eval_tokens = whole(start.get("tokens_per_eval"))
        self.every = {pause: whole(start.get(f"{pause}_every")) for pause in PAUSES}
        self.speeds: deque[float] = deque(maxlen=NEWEST)  # tokens per second, without the first step of a process
        self.seconds: dict[str, list[float]] = {pause: [] for pause in PAUSES}
        self.first, self.step, self.last = True, 0, now

    def take(self, row: Row, now: float) -> None:
        """Add a row that comes at this time."""
        waited, self.last, event = max(0.0, now - self.last), now, row["event"]
        if event == "step":
            if not self.first and row["tokens_per_second"] > 0:
                self.speeds.append(row["tokens_per_second"])
            self.first, self.step = False, row["step"]
        elif event in self.seconds:
            self.seconds[event].append(waited)

    @property
    def speed(self) -> float:
        """Tokens per second of the newest steps; 0 if it is not known yet."""
        return len(self.speeds) / sum(1 / speed for speed in self.speeds) if self.speeds else 0.0

    def left(self) -> float:
        """Return the seconds that the rest of the run takes: steps, evaluations, samples and checkpoints."""
        if not self.speed:
            return 0.0
        pauses = sum(self.count(pause) * self.mean(pause) for pause in PAUSES)
        return (self.steps - self.step) * self.tokens / self.speed + pauses

    def count(self, pause: str) -> int:
        """Return how many pauses of a kind come after the newest step, with that of the last step."""
        every = self.every[pause]
        regular = self.steps // every - self.step // every if every else 0
        return regular + (self.step < self.steps and not (every and self.steps % every == 0))

    def mean(self, pause: str) -> float:
        """Return the mean seconds of a pause; of an evaluation that was not seen yet, a third of training's cost."""
        seen = self.seconds[pause]
        if not seen and pause == "eval":
            return self.eval_tokens / self.speed / 3
        return sum(seen) / len(seen) if seen else 0.0


def whole(value: object) -> int:
    """Return a value of a log as a number of at least 0; 0 if it is none."""
    return value if isinstance(value, int) and value > 0 else 0


class History:
    """The history of a run so far."""

    def __init__(self) -> None:
        self.title, self.steps = "", 1
        self.pace = Pace()
        self.floor: float | None = None
        self.step: Row = {}
        self.metrics: Row = {}  # the newest value of each metric that parts or callbacks added
        self.sample: Row = {}
        self.evals: list[Row] = []
        self.losses: list[float] = []
        self.warning = ""

    def take(self, row: Row) -> None:
        """Add a row, as it comes."""
        event, now = row["event"], time.monotonic()
        self.pace.take(row, now)
        if event in ("start", "resume"):
            self.title, self.steps, self.pace = row["title"], row["steps"], Pace(row, now)
            self.floor = row.get("floor")
        elif event == "step":
            self.step = row
            self.metrics |= {key: value for key, value in row.items() if key not in OWN_KEYS}
            if row["loss"] is not None and math.isfinite(row["loss"]):
                self.losses.append(row["loss"])
        elif event == "eval":
            self.evals.append(readable(row))
            self.metrics |= {key: value for key, value in row.items() if key not in EVAL_KEYS}
        elif event == "warning":
            self.warning = row["text"]
        elif event == "sample":
            self.sample = row

    def status(self) -> str:
        """Return a line about the newest step: mean loss, tokens per second, time left."""
        last, pace = self.losses[-NEWEST:] or [math.nan], self.pace
        parts = [f"loss {sum(last) / len(last):.3f}{f' (mean of {len(last)} steps)' if last[1:] else ''}"]
        if pace.speed:
            parts.append(f"{pace.speed:,.0f} tokens/s")
            parts += [f"about {clock(pace.left())} left"] if pace.step < pace.steps else []
        return "  ".join(parts)

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
