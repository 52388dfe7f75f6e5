"""The report as one page that fetches nothing: what is text is HTML, what is drawn is data for `report.js`."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import nanotx
from nanotx.pages import CHART, html_page, script_file
from nanotx.report.curves import MOST_EVENTS, bucket_count, clock_of, curve, eval_metrics, event_rows, rounded
from nanotx.report.gather import RunReport
from nanotx.runs.history import clock as clock_text
from nanotx.runs.run_table import Scalar, differing, incomparable

HERE = Path(__file__).parent
SCRIPTS = (CHART, HERE / "report.js")
"""The scripts of the page, in their order."""

MOST_METRICS = 48
"""The most metrics of one run that are drawn."""

MOST_SAMPLES, MOST_CHARACTERS = 100, 3000
"""The most samples of one run on a page, evenly spread, and the most characters of each."""

MOST_RUNS = 24
"""The most runs on one page."""

OWN_METRICS = ("loss", "lr", "grad_norm", "tokens_per_second")
"""Metrics of every run, in the order of their charts."""


def report_page(runs: Sequence[RunReport]) -> str:
    """Return the page of a run, or of several with their curves together."""
    single = len(runs) == 1
    shown = list(runs[:MOST_RUNS])
    names = short_names([run.name for run in shown])
    title = f"{names[0]}" if single else f"{len(runs)} runs"
    notes = notes_of(runs)
    body = "".join(
        [
            f"<header><h1>{escape(title)}</h1>{header(runs[0]) if single else ''}</header>",
            notes_box(notes),
            figures(runs[0]) if single else runs_table(shown, names),
            CURVES,
            section("samples", "Samples", SAMPLES) if any(run.log.samples for run in shown) else "",
            section("passage", "A held-out passage", PASSAGE) if single and runs[0].passage else "",
            section("attention", "Attention", ATTENTION) if single and runs[0].passage.get("maps") else "",
            section("recipe", "Recipe", recipe_table(runs[0])) if single else "",
            section("events", "Events", events_table(shown, names)) if any(run.log.events for run in shown) else "",
            section("machine", "Machine, versions, digests", machine_table(shown, names)),
            f"<footer>Written by nanotx {escape(nanotx.__version__)}. This file fetches nothing.</footer>",
        ]
    )
    style = (HERE / "report.css").read_text(encoding="utf-8")
    return html_page(title, body, style=style, scripts=tuple(map(script_file, SCRIPTS)), data=page_data(shown, names))


CURVES = """<section id="curves" aria-label="Curves"><div id="controls"></div><div id="main-chart"></div>
<div id="small-charts"></div><p class="faint"><span id="thinned">Curves of many steps are thinned: the line is a mean
over <span id="window">some</span> steps, the band holds the least and the greatest value.</span> Point for values, drag
to enlarge, double-click for all; with the keyboard, Tab to a chart, then arrows, + and -, Escape.</p>
<noscript><p>Curves, samples and maps are drawn by the script of this page, and scripts are off.</p></noscript>
</section>"""

SAMPLES = """<p class="row"><label for="sample-step">after step <output id="sample-at"></output></label>
<input type="range" id="sample-step" min="0" value="0"></p><div id="sample-texts"></div>"""

PASSAGE = """<p class="faint">The beginning of the validation text, which training did not see. The stronger the colour
of a token, the less the model expected it. <span class="scale" aria-hidden="true"></span> 0 to 8 nats. Point at a
token, or use the arrow keys.</p><p id="token" aria-live="polite"></p>
<div id="tokens" role="group" aria-label="tokens of the passage"></div>"""

ATTENTION = """<p class="faint">A map for each head: a row for each token of the passage's beginning, a column for each
token that it looks at. Choose a head; on the large map, point, or use the arrow keys.</p>
<div><div id="heads"></div><div id="head"><canvas id="map" tabindex="0" role="img"></canvas>
<div><p id="looks" aria-live="polite"></p><div id="looked-at" aria-hidden="true"></div></div></div></div>"""


def section(key: str, title: str, body: str) -> str:
    """Return a section with its heading."""
    return f'<section id="{key}"><h2>{escape(title)}</h2>{body}</section>'


def short_names(folders: Sequence[str]) -> list[str]:
    """Return the last part of each folder's path, or the whole path where several end alike."""
    last = [Path(folder).resolve().name or folder for folder in folders]
    return [name if last.count(name) == 1 else folder for name, folder in zip(last, folders, strict=True)]


# Texts.


def header(run: RunReport) -> str:
    """Return the lines below the title of a run."""
    return f"<p>{escape(run.log.title)}</p>" if run.log.title else ""


def notes_of(runs: Sequence[RunReport]) -> list[str]:
    """Return what a reader has to know besides."""
    notes = [note if len(runs) == 1 else f"{run.name}: {note}" for run in runs for note in run.notes]
    if len(runs) > 1:
        notes = [*incomparable([run.row for run in runs]), *notes]
    if len(runs) > MOST_RUNS:
        notes.append(f"The first {MOST_RUNS} of {len(runs)} runs are shown.")
    for run in runs[:MOST_RUNS]:
        if (more := len(metric_names(run)) - MOST_METRICS) > 0:
            notes.append(f"{run.name}: {more} of its metrics are not drawn; metrics.jsonl has them.")
        if (more := len(event_rows(run.log)) - MOST_EVENTS) > 0:
            notes.append(f"{run.name}: {more} later events are left out; metrics.jsonl has them.")
    return list(dict.fromkeys(notes))


def notes_box(notes: Sequence[str]) -> str:
    """Return the notes as a list, in a box."""
    if not notes:
        return ""
    return f'<ul class="notes" role="note">{"".join(f"<li>{escape(note)}</li>" for note in notes[:40])}</ul>'


def status(run: RunReport) -> str:
    """Return how far a run has come."""
    if not run.log.step and not run.log.evals:
        return "no metrics"
    done = run.log.complete or run.summary.get("complete") is True
    at = f"{run.log.last:,} of {run.log.steps:,} steps"
    lost = bool(run.log.metrics.get("loss")) and math.isnan(list(run.log.metrics["loss"].values())[-1])
    return f"complete, {run.log.steps:,} steps" if done else f"diverged after {at}" if lost else f"unfinished, {at}"


def figures(run: RunReport) -> str:
    """Return the main figures of a run as a list."""
    row, summary = run.row, run.summary

    def number(key: str, form: str, unit: str = "") -> str:
        value = row.value(key)
        return f"{value:{form}}{unit}" if isinstance(value, int | float) else ""

    spread = row.value("val_stderr")
    error = f" ± {spread:.4f}" if isinstance(spread, float) else ""
    seconds = summary.get("train_seconds")
    best = row.value("best_step")
    share = summary.get("mfu")
    tiles = {
        "status": status(run),
        "validation loss": f"{loss}{error}" if (loss := number("val_loss", ".4f")) else "",
        "bits per byte": number("bits_per_byte", ".4f"),
        "best": f"{number('best_val_loss', '.4f')} at step {best:,}" if isinstance(best, int) else "",
        "parameters": number("parameters", ","),
        "training": clock_text(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else "",
        "tokens per second": number("tokens_per_second", ",.0f"),
        "of peak": f"{100 * share:.1f} %" if isinstance(share, float) else "",
    }
    rows = "".join(f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in tiles.items() if value)
    return f'<dl class="figures">{rows}</dl>'


def runs_table(runs: Sequence[RunReport], names: Sequence[str]) -> str:
    """Return the table of several runs: the recipe fields in which they differ, and what each reached."""
    rows = [run.row for run in runs]
    columns = [*differing(rows), "val_loss", "bits_per_byte", "step", "train_seconds", "tokens_per_second"]
    columns = [name for name in dict.fromkeys(columns) if any(row.value(name) is not None for row in rows)]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("run", *columns, "status"))
    lines = []
    for index, (run, name) in enumerate(zip(runs, names, strict=True)):
        swatch = f'<i class="swatch" style="--colour: var(--curve-{index % 8})"></i>'
        cells = "".join(f"<td>{escape(cell(run.row.value(column)))}</td>" for column in columns)
        lines.append(
            f"<tr><td>{swatch} {escape(name)}</td>{cells}<td>{escape(status(run).partition(',')[0])}</td></tr>"
        )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="wide runs">{table}</div>'


def cell(value: Scalar | None) -> str:
    """Return a cell of the table."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.5g}"
    return "-" if value is None else str(value)[:80]


def recipe_table(run: RunReport) -> str:
    """Return the recipe by its tables; rows that differ from the recipe that was named are marked.

    Where no name is known, as of a run from Python, they are compared with the defaults of their parts.
    """
    if not run.recipe:
        return "<p>There is no recipe.</p>"
    changed = sum(field.differs for field in run.recipe)
    known = any(field.default is not None for field in run.recipe)
    other = "was" if run.log.recipe else "default"
    parts = []
    for table in dict.fromkeys(field.table for field in run.recipe):
        rows = "".join(
            f'<tr class="{"differs" if field.differs else "same"}"><th scope="row">{escape(field.name)}</th>'
            f"<td>{escape(field.value[:200])}</td>"
            f"<td>{escape(f'{other} {field.default[:80]}') if field.differs and field.default else ''}</td></tr>"
            for field in run.recipe
            if field.table == table
        )
        kind = "" if any(field.differs for field in run.recipe if field.table == table) else ' class="same"'
        caption = f"<caption>{escape(table) or 'run'}</caption>"
        parts.append(f"<table{kind}>{caption}<tbody>{rows}</tbody></table>")
    against = f"the recipe {run.log.recipe}, with which the run began" if run.log.recipe else "nanotx's defaults"
    if known and changed:
        only = "the field that differs" if changed == 1 else f"the {changed} fields that differ"
        switch = f'<p><label><input type="checkbox" id="differing"> only {only} from {escape(against)}</label></p>'
    else:
        switch = f"<p>No field differs from {escape(against)}.</p>" if known else ""
    return f'{switch}<div id="fields">{"".join(parts)}</div>'


def events_table(runs: Sequence[RunReport], names: Sequence[str]) -> str:
    """Return the events: resumes, changes, warnings, steps that are not finite."""
    lines = []
    for run, name in zip(runs, names, strict=True):
        for row in event_rows(run.log)[:MOST_EVENTS]:
            until = f" to {row['until']:,}" if row["until"] > row["step"] else ""
            first = f"<td>{escape(name)}</td>" if len(runs) > 1 else ""
            lines.append(f"<tr>{first}<td>{row['step']:,}{until}</td><td>{escape(row['text'])}</td></tr>")
    first = "<th>run</th>" if len(runs) > 1 else ""
    head = f"<thead><tr>{first}<th>step</th><th>event</th></tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def machine_table(runs: Sequence[RunReport], names: Sequence[str]) -> str:
    """Return what each run was trained on and with."""
    columns = [machine(run) for run in runs]
    head = "".join(f"<th>{escape(name)}</th>" for name in names) if len(runs) > 1 else ""
    lines = []
    for key in dict.fromkeys(key for column in columns for key in column):
        cells = "".join(f"<td>{escape(column.get(key, '-'))}</td>" for column in columns)
        lines.append(f'<tr><th scope="row">{escape(key)}</th>{cells}</tr>')
    top = f"<thead><tr><th></th>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'


MACHINE = ("device", "dtype", "threads", "compiled", "seed", "corpus", "tokenizer", "vocab_size")
DIGESTS = ("corpus_sha256", "tokenizer_sha256")


def machine(run: RunReport) -> dict[str, str]:
    """Return the machine, the versions and the digests of a run, as texts."""
    summary = run.summary
    figures = {key: str(summary[key])[:100] for key in MACHINE if key in summary}
    peak = summary.get("peak_flops")
    if isinstance(peak, int | float):
        figures["measured peak"] = f"{peak / 1e9:,.0f} GFLOP/s"
    versions = summary.get("versions")
    if isinstance(versions, dict):
        figures |= {str(key)[:40]: str(value)[:60] for key, value in list(versions.items())[:20]}
    figures |= {key.replace("_sha256", ", SHA-256"): str(summary[key])[:64] for key in DIGESTS if summary.get(key)}
    figures |= {f"metric {key}"[:80]: value[:200] for key, value in list(run.log.texts.items())[:20]}
    return figures or {"summary.json": "missing or unreadable"}


# Data.


def page_data(runs: Sequence[RunReport], names: Sequence[str]) -> dict[str, Any]:
    """Return what the script reads."""
    curves = sum(len(metric_names(run)) for run in runs)
    shared = {frozenset(run.references.items()) for run in runs if run.references}
    run = runs[0]
    bits = bits_per_nat(run)[0]
    references = (
        [{"name": name, "nats": rounded(value)} for name, value in run.references.items()] if len(shared) == 1 else []
    )
    floors = {other.log.floor for other in runs}
    if len(floors) == 1 and run.log.floor is not None:
        references.append(
            {"name": "floor", "bits": rounded(run.log.floor), "nats": rounded(run.log.floor / bits) if bits else None}
        )
    return {
        "runs": [run_data(run, name, bucket_count(curves)) for run, name in zip(runs, names, strict=True)],
        "references": references,
        "unit": "nats" if len({other.summary.get("tokenizer_sha256") for other in runs}) == 1 else "bits",
        "passage": run.passage if len(runs) == 1 else {},
        "passage_step": run.passage_step,
    }


def metric_names(run: RunReport) -> list[str]:
    """Return the metrics of the steps, those of every run first."""
    own = [name for name in OWN_METRICS if name in run.log.metrics]
    return [*own, *(name for name in run.log.metrics if name not in own)]


def run_data(run: RunReport, name: str, buckets: int) -> dict[str, Any]:
    """Return the curves, events and samples of a run."""
    log, clock = run.log, clock_of(run.log)
    tables, metrics, window = list[dict[str, Any]](), list[dict[str, Any]](), 1
    for key in metric_names(run)[:MOST_METRICS]:
        thinned = curve(log, key, buckets)
        place = place_of(tables, clock.at(thinned.steps))
        band = {} if thinned.exact else {"low": thinned.low, "high": thinned.high}
        metrics.append({"name": key, "x": place, "y": thinned.mean, **band})
        window = max(window, thinned.window)
    evals: dict[str, Any] = {}
    if log.evals:
        steps = [row["step"] for row in log.evals]
        evals = {"x": place_of(tables, clock.at(steps))}
        for key in ("val_loss", "train_loss"):
            evals[key] = [number(row.get(key)) for row in log.evals]
    added = [
        {"name": key, "x": place_of(tables, clock.at(steps)), "y": [number(value) for value in values], "dots": True}
        for key, (steps, values) in eval_metrics(log).items()
    ]
    events = event_rows(log)[:MOST_EVENTS]
    return {
        "name": name,
        "tables": tables,
        "metrics": metrics + added[:MOST_METRICS],
        "window": window,
        "evals": evals,
        "bits": bits_per_nat(run),
        "flops": flops_per_token(run),
        "events": [{**row, "text": row["text"][:200]} for row in events],
        "event_x": clock.at([row["step"] for row in events]),
        "samples": samples(run),
    }


def place_of(tables: list[dict[str, Any]], table: dict[str, Any]) -> int:
    """Return the place of a table of x values; it is added if it is new."""
    if table not in tables:
        tables.append(table)
    return tables.index(table)


def number(value: object) -> float | None:
    """Return a finite number in five digits; None for all else."""
    return rounded(float(value)) if isinstance(value, int | float) and math.isfinite(value) else None


def bits_per_nat(run: RunReport) -> tuple[float | None, float | None]:
    """Return the bits per byte of a nat per token, of the validation and of the training text; None if unknown."""

    def ratio(bits: str, loss: str) -> float | None:
        for row in reversed(run.log.evals):
            numerator, nats = number(row.get(bits)), number(row.get(loss))
            if numerator and nats and min(numerator, nats) > 0:
                return float(row[bits] / row[loss])
        return None

    val = ratio("bits_per_byte", "val_loss")
    return val, ratio("train_bits_per_byte", "train_loss") or val


def flops_per_token(run: RunReport) -> float | None:
    """Return the operations of a token in training, from the figures of the summary; None if they are unknown."""
    flops, tokens = run.summary.get("flops"), run.summary.get("tokens")
    if isinstance(flops, int | float) and isinstance(tokens, int) and tokens > 0:
        return flops / tokens
    used, peak, speed = (run.summary.get(key) for key in ("mfu", "peak_flops", "tokens_per_second"))
    if not (isinstance(used, float) and isinstance(peak, float) and isinstance(speed, float) and speed > 0):
        return None
    return used * peak / speed


def samples(run: RunReport) -> list[dict[str, Any]]:
    """Return the samples, evenly spread where there are many, with the validation loss of their step."""
    losses = {row["step"]: row["val_loss"] for row in run.log.evals}
    rows = spread(run.log.samples, MOST_SAMPLES)
    return [
        {"step": row["step"], "text": row["text"][:MOST_CHARACTERS], "loss": number(losses.get(row["step"]))}
        for row in rows
    ]


def spread(rows: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many of some rows, evenly spread, with the first and the last."""
    if len(rows) <= most:
        return list(rows)
    places: Iterable[int] = dict.fromkeys(round(index * (len(rows) - 1) / (most - 1)) for index in range(most))
    return [rows[place] for place in places]
