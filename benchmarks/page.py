"""Write docs/benchmarks.md and its plots from docs/benchmarks.json.

python -m benchmarks.page [docs/benchmarks.json]
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.comparison import describe_cost

AXES = {
    "images": ("images in the folder", "predict -t csv, tiny network at 64 px"),
    "size": ("side of the image in pixels", "forward pass, batch 1"),
    "threads": ("threads", "forward pass at 512 px, batch 1"),
    "batch": ("images per batch", "forward pass at 512 px"),
}
HEAD = """# Benchmarks

How fast pneumoseg is beside other programs that do the same work, and how time and memory grow.

`make bench` measures each line against its peer, in turns, with medians of samples during which other
processes used less than 8 % of a core; lines for which the machine was never quiet enough say so. The ratio is the
cost of the peer divided by ours, so that more is better; the fraction is the ratio divided by the limit that is
required. Compare ratios: times of other machines, or of another day, differ. Peers run in processes of their own, with
the memory allocator as their users have it; part of our ratio over eager torch is the [memory that our commands
keep](decisions.md#inference-and-outputs).

<!-- What follows is written by benchmarks/page.py from benchmarks.json. -->
"""


def write_page(path: Path) -> None:
    """Write the page and its plots beside a file of results.

    Args:
        path: ``benchmarks.json``, as `benchmarks.all` writes it.
    """
    results = json.loads(path.read_text())
    pictures = path.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    for series in AXES:
        points = [point for point in results["scaling"] if point.get("series") == series]
        if points:
            draw(series, points, pictures / f"benchmarks-{series}.svg")
    path.with_suffix(".md").write_text(make_page(results))


def make_page(results: dict[str, Any]) -> str:
    """Make the text of the page.

    Args:
        results: Content of ``benchmarks.json``.
    """
    machine = results["machine"]
    libraries = ", ".join(f"{name} {found}" for name, found in machine["libraries"].items())
    text = HEAD + (
        f"\n{machine['processor']}, {machine['cores']} cores"
        f" ({', '.join(machine['instructions']) or 'no vector instructions known'}), Python {machine['python']}, "
        f"{libraries}.\n"
    )
    if results["quick"]:
        text += "\nThis was a quick run, which shows that everything runs; its ratios mean little.\n"
    text += "\n| | ours | peer | ratio | limit | fraction | |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    for lines in results["lines"].values():
        text += "".join(_row(line) for line in lines)
    known = [series for series in AXES if any(p.get("series") == series for p in results["scaling"])]
    if known:
        text += "\n## Scaling\n\nTime and peak memory of processes of their own; the memory includes the libraries.\n"
    for series in known:
        label, what = AXES[series]
        text += f"\n![{what}: time and memory by {label}](pictures/benchmarks-{series}.svg)\n"
        text += f"\n| {label} | seconds | peak memory, MiB |\n| --- | --- | --- |\n"
        for point in results["scaling"]:
            if point["series"] == series:
                text += f"| {point['value']:,} | {point['seconds']:.3g} | {point['peak_mib']:,.0f} |\n"
    return text


def _row(line: dict[str, Any]) -> str:
    if line["ratio"] is None:
        return f"| {line['name']} | | | not measured | {_number(line['limit'])} | | {line['note']} |\n"
    verdict = {None: "", True: "passed", False: "**missed**"}[line["passed"]]
    remarks = "; ".join(
        each for each in (verdict, line["note"], "" if line["quiet"] else "machine was busy") if each
    )
    costs = " | ".join(describe_cost(line[side], line["unit"]) for side in ("ours", "peer"))
    numbers = " | ".join(map(_number, (line["ratio"], line["limit"], line["fraction"])))
    return f"| {line['name']} | {costs} | {numbers} | {remarks} |\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def draw(series: str, points: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time and peak memory of a series as SVG; the same points give the same bytes.

    Args:
        series: What grows.
        points: Points of the series.
        path: Path of the picture.
    """
    label, what = AXES[series]
    with mpl.rc_context({"svg.hashsalt": series, "svg.fonttype": "path"}):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        for axes, key, name in zip(
            figure.subplots(1, 2), ("seconds", "peak_mib"), ("seconds", "peak memory, MiB"), strict=True
        ):
            axes.plot([point["value"] for point in points], [point[key] for point in points], "o-")
            axes.set_xscale("log", base=10 if series == "images" else 2)
            axes.set_yscale("log", base=10)
            axes.set(xlabel=label, ylabel=name)
            axes.grid(which="both", alpha=0.2)
        figure.suptitle(what)
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    write_page(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "benchmarks.json"
    )
