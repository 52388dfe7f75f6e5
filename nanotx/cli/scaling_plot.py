"""Plot of a scaling experiment: loss against FLOPs, with the power law of each arm."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from nanotx.cli.run_plot import COLOURS, STYLE
from nanotx.errors import RunError, printable
from nanotx.experiments.scaling import Curve, Scaling


def draw(scaling: Scaling, file: Path) -> None:
    """Draw every run as a point, and a line for each arm; where the lines cross, if that is known, a dotted line.

    Raises:
        RunError: the file cannot be written.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for curve, colour in zip(scaling.curves, COLOURS, strict=False):
            draw_curve(axes, curve, colour)
        crossing = scaling.crossing
        low, high = axes.get_xlim()
        if crossing and crossing.flops and crossing.interval and low <= crossing.flops <= high:
            axes.axvline(crossing.flops, color="#888888", lw=1, ls=":", label=f"they cross at {crossing.flops:.1e}")
        mark_losses(axes)
        axes.xaxis.set_major_formatter(lambda flops, place: f"{flops:.0e}")
        axes.set_xlabel("FLOPs of the training")
        axes.set_ylabel(scaling.unit)
        axes.grid(True)
        axes.legend(fontsize=7.5, frameon=False)
        try:
            figure.savefig(file, dpi=160)
        except OSError as error:
            raise RunError(f"--plot {file}: cannot be written: {error.strerror}.") from None


def draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    """Draw the runs of an arm and its line."""
    name = printable(curve.name)
    for flops, losses in zip(curve.flops, curve.losses, strict=True):
        known = [loss for loss in losses if loss is not None]
        axes.plot([flops] * len(known), known, ".", color=colour, ms=5, alpha=0.7)
    if curve.fit is None:
        axes.plot([], [], color=colour, label=f"{name}: a run diverged")
        return
    ends = np.geomspace(min(curve.flops) / 1.3, max(curve.flops) * 1.3, 50)
    law = f"{name}: exponent {curve.fit.exponent:.3f}"
    axes.plot(ends, [curve.fit.loss(float(flops)) for flops in ends], color=colour, lw=1.2, label=law)


def mark_losses(axes: Axes) -> None:
    """Write a few losses beside the axis: a logarithmic one that spans less than ten has none of its own."""
    low, high = axes.get_ylim()
    marks = np.linspace(low, high, 6)[1:-1]
    axes.set_yticks(marks, [f"{mark:.2f}" for mark in marks])
    axes.yaxis.set_minor_locator(NullLocator())
