"""Plots as SVG (needs the extra `lab`): the same figures give the same bytes."""

from __future__ import annotations

from pathlib import Path

from lab.figures import Plot

MARKERS = "osv^Dx*+P"


def available() -> bool:
    """Whether matplotlib is there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(plot: Plot, to: Path) -> None:
    """Write one plot; curves without an interval are published values, dashed."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": plot.name, "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7, 4))
        places = list(range(len(plot.x)))
        for curve, marker in zip(plot.curves, MARKERS * 3, strict=False):
            known = [(x, y, i) for i, (x, y) in enumerate(zip(places, curve.y, strict=True)) if y is not None]
            xs, ys = [x for x, _, _ in known], [y for _, y, _ in known]
            if curve.low:
                below = [max(0.0, y - curve.low[i]) for _, y, i in known]
                above = [max(0.0, curve.high[i] - y) for _, y, i in known]
                axes.errorbar(xs, ys, [below, above], marker=marker, ms=4, lw=1, capsize=2, label=curve.name)
            else:
                axes.plot(xs, ys, marker=marker, ms=4, lw=1, ls="--", label=curve.name)
        axes.set_xticks(places, plot.x)
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        axes.set_title(plot.title)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        to.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(to, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
