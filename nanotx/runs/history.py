"""The history of a run, built from the rows of its metrics log."""

import math
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from nanotx.runs.curve import Curve
from nanotx.runs.metrics_log import Row

OWN_KEYS = {"event", "step", "loss", "grad_norm", "lr", "tokens_per_second", "nonfinite"}
"""Keys of a step's row that every run has; the others are metrics that parts or callbacks added."""


EVAL_KEYS = {
    *("event", "step", "train_loss", "val_loss", "train_bits_per_byte", "bits_per_byte", "perplexity", "val_stderr"),
    *("val_tokens", "train_tokens", "eval_tokens", "wall_seconds", "nonfinite"),
}
"""Keys of an evaluation's row that every run has."""


MOST_EVENTS = 1000
"""Events that are kept, the newest ones."""

NEWEST = 20
"""Steps over which the loss and the speed on the screen are means."""

DAY = 86_400
"""Seconds of a day."""

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
        self.first, self.step, self.last = True, whole(start.get("step")), now

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


class Event(NamedTuple):
    """Something that happened after a step, to be marked on the curve."""

    step: int
    kind: str  # resumed, changed, reset, skipped or warning
    text: str = ""


class LogClock:
    """The times of the rows of a log: a step takes as long as its speed says, and evaluations record theirs."""

    def __init__(self) -> None:
        self.now, self.tokens = 0.0, 0

    def at(self, row: Row) -> float:
        """Return the time of the next row, in seconds since the run began."""
        if row["event"] in ("start", "resume"):
            self.tokens = row["tokens_per_step"]
        if row["event"] == "step" and row["tokens_per_second"] > 0:
            self.now += self.tokens / row["tokens_per_second"]
        self.now = max(self.now, positive(row.get("wall_seconds")))
        return self.now


class History:
    """The history of a run so far."""

    def __init__(self) -> None:
        self.title, self.steps = "", 1
        self.pace = Pace()
        self.floor: float | None = None  # bits per byte
        self.step: Row = {}
        self.metrics: Row = {}  # the newest value of each metric that parts or callbacks added
        self.sample: Row = {}
        self.evals: list[Row] = []
        self.best: Row = {}  # the evaluation with the lowest validation loss
        self.recent: deque[float] = deque(maxlen=NEWEST)  # losses of the newest steps
        self.curve = Curve()  # of the loss
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.warning = ""
        self.now = 0.0  # the time of the newest row
        self.began = 0.0  # the time at which the run began, were it a single process
        self.share_per_token = 0.0  # of a second, that a token takes at the machine's peak

    def recall(self, rows: Iterable[Row]) -> None:
        """Add the rows of a log, each at the time that the log gives."""
        clock = LogClock()
        for row in rows:
            self.take(row, clock.at(row))

    def take(self, row: Row, now: float | None = None) -> None:
        """Add a row.

        Args:
            row: the row.
            now: the time at which it came, in seconds; the present without it.
        """
        event, self.now = row["event"], time.monotonic() if now is None else now
        self.pace.take(row, self.now)
        if event in ("start", "resume"):
            self.begin(row)
        elif event == "step":
            self.add_step(row)
        elif event == "eval":
            self.add_eval(readable(row))
        elif event == "warning":
            self.add_warning(row)
        elif event == "changed":
            self.events.append(Event(row["step"], "changed"))
        elif event == "sample":
            self.sample = row

    def begin(self, row: Row) -> None:
        """Add the first row of a process."""
        self.title, self.steps, self.pace = row["title"], row["steps"], Pace(row, self.now)
        self.floor, self.began = row.get("floor"), self.now - positive(row.get("wall_seconds"))
        peak = positive(row.get("peak_flops"))
        self.share_per_token = positive(row.get("flops_per_token")) / peak if peak else 0.0
        if row["event"] == "resume":
            self.events.append(Event(row["step"], "resumed"))

    def add_step(self, row: Row) -> None:
        """Add a step; its loss goes into the curve, or the step is marked as skipped."""
        self.step = row
        self.metrics |= {key: value for key, value in row.items() if key not in OWN_KEYS}
        if is_finite(row["loss"]):
            self.recent.append(float(row["loss"]))
            self.curve.add(row["step"], float(row["loss"]))
        if not (is_finite(row["loss"]) and is_finite(row["grad_norm"])):
            self.events.append(Event(row["step"], "skipped"))

    def add_eval(self, row: Row) -> None:
        """Add an evaluation, and note whether it is the best."""
        self.evals.append(row)
        self.metrics |= {key: value for key, value in row.items() if key not in EVAL_KEYS}
        if math.isfinite(row["val_loss"]) and row["val_loss"] < self.best.get("val_loss", math.inf):
            self.best = row

    def add_warning(self, row: Row) -> None:
        """Add a warning; that of a skipped step belongs to the step's mark."""
        self.warning, kind = row["text"], row.get("kind")
        known = self.events and self.events[-1][:2] == (row["step"], "skipped")
        if not known:
            self.events.append(Event(row["step"], "reset" if kind == "reset" else "warning", row["text"]))

    @property
    def floor_loss(self) -> float | None:
        """The entropy floor in nats per token of the validation text; None if it is unknown."""
        rates = [(row["val_loss"], row["bits_per_byte"]) for row in self.evals[-1:] if row["bits_per_byte"]]
        if self.floor is None or not rates or not all(map(math.isfinite, rates[0])):
            return None
        return self.floor * rates[0][0] / rates[0][1]

    @property
    def peak_share(self) -> float:
        """The share of the machine's peak that the newest steps reached (mfu); 0 if it is not known."""
        return self.pace.speed * self.share_per_token

    def left(self, now: float) -> float:
        """Return the seconds that the rest of the run takes at this time; 0 if it is not known yet."""
        return max(0.0, self.pace.left() - (now - self.pace.last)) if self.pace.step < self.pace.steps else 0.0

    def figures(self) -> list[str]:
        """Return the figures of the newest steps, each with its name."""
        last = self.recent or [math.nan]
        over = f" (mean of {len(last)} steps)" if len(last) > 1 else ""
        figures = [f"loss {sum(last) / len(last):.3f}{over}"]
        figures += [f"gradient norm {short(self.step['grad_norm'])}", f"learning rate {short(self.step['lr'])}"]
        if self.pace.speed:
            figures.append(f"{self.pace.speed:,.0f} tokens/s")
        if self.peak_share:
            figures.append(f"{self.peak_share:.1%} of the machine's peak")
        return figures

    def status(self) -> str:
        """Return a line about the newest step: its figures, and the time left."""
        left = self.left(self.now)
        return "  ".join([*self.figures(), *([f"about {clock(left)} left"] if left else [])])

    def metric_items(self) -> list[str]:
        """Return the newest metrics that parts or callbacks added, each with its name."""
        return [f"{key} {metric(value)}" for key, value in self.metrics.items()]

    def metrics_line(self, most: int = 6) -> str:
        """Return the newest metrics that parts or callbacks added, in one line; "" if there are none."""
        items = self.metric_items()
        more = len(items) - most
        return "  ".join([*items[:most], *([f"and {more} more"] if more > 0 else [])])


def is_finite(value: object) -> bool:
    """Return whether a value of a log is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def positive(value: object) -> float:
    """Return a value of a log as a number of at least 0; 0 if it is none."""
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else 0.0


def short(value: object) -> str:
    """Return a number of a log in a few characters."""
    return f"{value:.3g}" if isinstance(value, int | float) and math.isfinite(value) else "not finite"


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


def reads_training(row: Row) -> bool:
    """Return whether an evaluation read the training text; those of experiments do not."""
    return row.get("train_tokens") != 0


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
    """Format seconds as hours, minutes and seconds; from two days on as days and hours."""
    if not seconds < 1000 * DAY:
        return "over 1,000 days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
