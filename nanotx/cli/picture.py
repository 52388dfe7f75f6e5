"""The picture of a run, fitted to a width and a height: progress, figures, curve, evaluations, metrics, sample."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment

from nanotx.cli.chart import ASCII, UNICODE, Chart, Glyphs, Line, draw
from nanotx.errors import printable
from nanotx.runs.curve import Curve, Point
from nanotx.runs.history import Event, History, clock, error, gap, rate, reads_training
from nanotx.runs.metrics_log import Row

MOST_POINTS = 120
"""Points of a curve; it would be noise with more, however wide the terminal is."""

TWO_COLUMNS = 120
"""The width from which on the sample is beside the evaluations."""

MARKS = {
    "resumed": ("R", "bold blue"),
    "changed": ("C", "bold blue"),
    "reset": ("0", "bold magenta"),
    "skipped": ("S", "bold red"),
    "warning": ("!", "bold yellow"),
}
"""The letter below the axis for each kind of event; the first three also have a line through the curve."""

RULES = ("resumed", "changed", "reset")


@dataclass(frozen=True, kw_only=True)
class Present:
    """The state of a run at the moment of a picture, besides its rows."""

    now: float  # in seconds, on the clock of the rows
    titled: bool = False  # whether the title of the run is part of the picture
    note: str = ""  # a line of a callback
    busy: str = ""  # what the run does between two rows, such as "evaluation"
    draft: str = ""  # the text of the sample that is being generated
    memory: str = ""  # the memory of the process


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a run that fits into the console that it is printed to."""

    history: History
    present: Present
    height: int = 0  # lines; 0 for those of the console

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        glyphs = ASCII if options.ascii_only or options.legacy_windows else UNICODE
        lines = picture_lines(self.history, self.present, options.max_width, self.height or console.height, glyphs)
        return Lines(lines).__rich_console__(console, options)


@dataclass(frozen=True)
class Lines:
    """Lines that are printed as they are."""

    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            for text, style in line:
                yield Segment(text, console.get_style(style) if style else None)
            yield Segment.line()


@dataclass
class Page:
    """The lines of a picture so far, and the room that is left."""

    width: int
    height: int
    glyphs: Glyphs
    lines: list[Line] = field(default_factory=list)

    @property
    def room(self) -> int:
        """The lines that are left."""
        return self.height - len(self.lines)

    def add(self, lines: Iterable[Line], most: int | None = None) -> None:
        """Add lines, as many as there is room for, and not more than `most`."""
        self.lines += [*lines][: self.room if most is None else max(0, min(self.room, most))]


def picture_lines(history: History, present: Present, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Return the picture of a run as lines.

    Args:
        history: of the run.
        present: what else is known.
        width: of the picture in characters; no line is wider.
        height: of the picture; there are no more lines.
        glyphs: its characters.
    """
    page = Page(max(width, 1), max(height, 1), glyphs)
    if present.titled:
        page.add(styled(wrapped(history.title, page.width), "bold"), most=2)
    if history.title or history.step:
        page.add([progress(history, present.now, page)])
    if history.title and not history.step:
        page.add(styled(wrapped("The first step takes longer than the others.", page.width), "dim"))
    if history.step:
        page.add(flow([*history.figures(), *filter(None, [present.memory])], page.width), most=max(3, height // 3))
    alerts = [text for text in (history.warning, present.note) if text]
    alert_lines = min(sum(len(wrapped(text, page.width)) for text in alerts), 2 + height // 20)
    share = 0.6 if page.width >= TWO_COLUMNS else 0.45
    page.add(curve(history, page.width, min(round(share * height), page.room - alert_lines - 3), glyphs))
    for text in alerts:
        page.add(styled(shortened(wrapped(text, page.width), 1 + height // 20, page.width, glyphs), "yellow"))
    page.add(styled(metrics(history, page), ""))
    below(history, present, page)
    return page.lines


def progress(history: History, now: float, page: Page) -> Line:
    """Return the line of progress: steps, a bar, and times."""
    done, steps = max(history.pace.step, history.step.get("step", 0)), max(history.steps, 1)
    share, left = min(1.0, done / steps), history.left(now)
    texts = [f"step {done:,}/{history.steps:,}", f"{int(100 * share)}%"]
    if now > history.began:
        texts.append(clock(now - history.began))
    if left:
        texts.append(f"about {clock(left)} left")
    bar = min(60, page.width - sum(map(len, texts)) - 2 * len(texts))
    if bar < 5:
        while len(texts) > 1 and len("  ".join(texts)) > page.width:
            del texts[1]
        return [("  ".join(texts)[: page.width], "")]
    full = int(bar * share)
    bars = [(page.glyphs.bar[0] * full, "green"), (page.glyphs.bar[1] * (bar - full), "dim")]
    return [(f"{texts[0]}  ", "bold"), *bars, (f"  {'  '.join(texts[1:])}", "")]


def curve(history: History, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Return the curve of the loss with its caption; nothing where there is no room, or nothing to draw yet."""
    points, steps = smoothed(history.curve, min(width, MOST_POINTS))
    values = [(float(row["step"]), float(row["val_loss"])) for row in history.evals if math.isfinite(row["val_loss"])]
    if height < 5 or width < 20 or len({step for step, _ in [*points, *values]}) < 2:
        return []
    level, best = history.floor_loss, history.best
    chart = Chart(
        curve=points,
        values=values,
        last=float(history.step.get("step", 0)),
        best=(float(best["step"]), float(best["val_loss"])) if best else None,
        level=level,
        rules=[event.step for event in history.events if event.kind in RULES],
        marks=[(event.step, *MARKS[event.kind]) for event in history.events],
    )
    caption = [("loss" if steps == 1 else f"loss (mean of {steps:,} steps)", "cyan")]
    if values:
        caption.append((f"{glyphs.value} validation", "green"))
        caption.append((f"{glyphs.best} best {best['val_loss']:.4f} at step {best['step']:,}", "bold green"))
    if level is not None:
        caption.append((f"{glyphs.level} floor {rate(history.floor)} bits per byte", "magenta"))
    caption += [(text, MARKS[kind][1]) for kind, text in event_counts(history.events)]
    lines = flowed(caption, width)[: 1 if height < 9 else 2]
    return [*lines, *draw(chart, width, height - len(lines), glyphs)]


def smoothed(curve: Curve, most: int) -> tuple[list[Point], int]:
    """Return at most so many points of a curve, each the mean of neighbours, and the steps of each."""
    points = curve.points()
    size = -(-len(points) // most)
    groups = [points[index : index + size] for index in range(0, len(points), max(size, 1))]
    means = [tuple(sum(column) / len(group) for column in zip(*group, strict=True)) for group in groups]
    return [(step, value) for step, value in means], size * curve.span


def event_counts(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return each kind of events with its letter and its number."""
    kinds = [event.kind for event in events]
    names = {"skipped": "skipped step", "warning": "warning"}
    labels = []
    for kind in MARKS:
        if count := kinds.count(kind):
            name = names.get(kind, kind)
            many = f"{count:,} {name}s" if kind in names else f"{name} {count:,} times"
            labels.append((kind, f"{MARKS[kind][0]} {name if count == 1 else many}"))
    return labels


def metrics(history: History, page: Page) -> list[str]:
    """Return the metrics that parts or callbacks added, in as many lines as a picture of this height has for them."""
    items, most = history.metric_items(), 1 + page.height // 15
    for shown in range(len(items), 0, -1):
        more = [f"and {len(items) - shown} more"] if shown < len(items) else []
        lines = [line_text(line) for line in flow([*items[:shown], *more], page.width)]
        if len(lines) <= most:
            return lines
    return lines[:most] if items else []


def below(history: History, present: Present, page: Page) -> None:
    """Add what is below the curve: evaluations, and the sample below or beside them."""
    beside = page.width >= TWO_COLUMNS
    most = page.room - 1 if beside else 3 if page.room < 14 else 6
    rows = evaluations(history, page.width, max(1, min(most, 12)), page.glyphs)
    wide = beside and bool(rows)
    if not wide:
        page.add(rows)
        page.add(sample(history, present, page.width, page.room, page.glyphs))
        return
    left = max(line_width(line) for line in rows)
    text = sample(history, present, page.width - left - 3, page.room, page.glyphs)
    for index in range(min(page.room, max(len(rows), len(text)))):
        line = rows[index] if index < len(rows) else []
        page.add([[*line, (" " * (left + 3 - line_width(line)), ""), *(text[index] if index < len(text) else [])]])


def evaluations(history: History, width: int, most: int, glyphs: Glyphs) -> list[Line]:
    """Return a table of the newest evaluations and the best one, which is marked; columns that do not fit are left out.

    Args:
        history: of the run.
        width: of the table at most.
        most: rows, without the head.
        glyphs: the characters.
    """
    best, newest = history.best, history.evals[-most:]
    if best and all(row is not best for row in newest):
        newest = [best, *newest[len(newest) == most :]]
    table = evaluation_columns(newest, best, glyphs)
    while len(table) > 2 and sum(len(column[0]) + 2 for column in table) - 2 > width:
        table.remove(next(column for name in LEAST for column in table if column[0].strip() == name))
    texts = ["  ".join(cells)[:width] for cells in zip(*table, strict=True)] if newest else []
    return [[(text, style_of(row, best))] for text, row in zip(texts, [None, *newest], strict=bool(texts))]


LEAST = ("±", "+/-", "gap", "training loss", "", "bits per byte")
"""Columns in the order in which they are left out of a narrow table."""


def evaluation_columns(rows: Sequence[Row], best: Row, glyphs: Glyphs) -> list[list[str]]:
    """Return the columns of the table of evaluations, each with its head, their cells of one width."""
    plain = "+/-" if glyphs is ASCII else "±"
    columns = {
        "step": [f"{row['step']:,}" for row in rows],
        "training loss": [f"{row['train_loss']:.4f}" for row in rows],
        "validation loss": [f"{row['val_loss']:.4f}" for row in rows],
        plain: [error(row).removeprefix(" ± ") for row in rows],
        "gap": [f"{gap(row):+.4f}" for row in rows],
        "bits per byte": [rate(row["bits_per_byte"]) for row in rows],
        "": [f"{glyphs.best} best" if row is best else "" for row in rows],
    }
    empty = [name for name in (plain, "") if not any(columns[name])]
    empty += ["training loss", "gap"] if not any(map(reads_training, rows)) else []
    columns = {name: cells for name, cells in columns.items() if name not in empty}
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    return [[f"{cell:>{widths[name]}}" for cell in [name, *cells]] for name, cells in columns.items()]


def style_of(row: Row | None, best: Row) -> str:
    """Return the style of a row of evaluations; None is the head."""
    return "dim" if row is None else "bold green" if row is best else ""


def sample(history: History, present: Present, width: int, most: int, glyphs: Glyphs) -> list[Line]:
    """Return the newest sample under its title: the end of one in the making, and the beginning of a finished one."""
    if present.busy == "sample" and present.draft:
        title, text = f"step {history.step.get('step', 0):,} is writing", printable(present.draft)
    elif present.busy:
        title, text = f"{present.busy} of step {history.step.get('step', 0):,} ...", ""
    else:
        title, text = f"step {history.sample['step']:,} writes" if history.sample else "", ""
    if history.sample and not text:
        text = history.sample["text"]
    if not title or most < 2 or (most < 3 and not present.busy):
        return []
    rule = glyphs.line * max(0, width - cell_len(title) - 4)
    head = f"{glyphs.line * 2} {title} {rule}"[:width]
    lines = [line for part in text.strip("\n").expandtabs(4).splitlines() for line in wrapped(part, width, fold=True)]
    rest = most - 1
    lines = lines[-rest:] if present.draft and rest else shortened(lines, rest, width, glyphs)
    return [[(head, "dim")], *styled(lines, "")]


# Texts in lines.


def flow(items: Iterable[str], width: int) -> list[Line]:
    """Return items in lines, two blanks apart; an item is broken only where it is wider than a line."""
    return flowed([(item, "") for item in items], width)


def flowed(items: Iterable[tuple[str, str]], width: int) -> list[Line]:
    """Return styled items in lines, two blanks apart."""
    lines: list[Line] = []
    for text, style in items:
        for part in wrapped(text, width):
            if lines and line_width(lines[-1]) + 2 + cell_len(part) <= width:
                lines[-1] += [("  ", ""), (part, style)]
            else:
                lines.append([(part, style)])
    return lines


def wrapped(text: str, width: int, fold: bool = False) -> list[str]:
    """Return a text in lines of a width, in cells of a terminal.

    Args:
        text: the text.
        width: of a line.
        fold: keep all blanks and break anywhere, rather than between words.
    """
    if cell_len(text) <= width:
        return [text]
    lines, line, used = list[str](), "", 0
    for word in text if fold else text.split(" "):
        blank = " " if line and not fold else ""
        if used + len(blank) + cell_len(word) <= width:
            line, used = line + blank + word, used + len(blank) + cell_len(word)
        elif fold or cell_len(word) <= width:
            lines.append(line)
            line, used = word, cell_len(word)
        else:
            *full, line = wrapped(line + blank + word, width, fold=True)
            lines += full
            used = cell_len(line)
    return [text for text in [*lines, line] if text or fold]


def shortened(lines: list[str], most: int, width: int, glyphs: Glyphs) -> list[str]:
    """Return the first lines; the last one shows that there are more."""
    if len(lines) <= most or most < 1:
        return lines[: max(0, most)]
    last = lines[most - 1].rstrip()
    return [
        *lines[: most - 1],
        f"{last} {glyphs.more}".lstrip() if cell_len(last) + 4 <= width else glyphs.more[:width],
    ]


def styled(lines: Iterable[str], style: str) -> list[Line]:
    """Return lines of one style."""
    return [[(line, style)] for line in lines]


def line_text(line: Line) -> str:
    """Return the text of a line."""
    return "".join(text for text, _ in line)


def line_width(line: Line) -> int:
    """Return the width of a line in cells of a terminal."""
    return sum(cell_len(text) for text, _ in line)
