"""Compare the cost of this software with that of its peers: interleaved samples, and their medians.

Machines are noisy, so the sides of a comparison take turns in rotated order, and samples during which other processes
used the processor are discarded. Compare ratios, never times of different runs.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.peers import Peer

QUIET: Final = 0.08
"""Share of a core that other processes may use during a sample that is kept."""
SAMPLE_S: Final = 0.3
"""Least seconds of a sample: shorter work is repeated, since the kernel counts in hundredths of a second."""
FEWEST: Final = 3
"""With fewer quiet samples than these, all samples are used."""
_PEER_WARM_UP: Final = 3
"""Calls of a peer before each of its samples."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a benchmark runs on.

    Attributes:
        quick: Few rounds and small inputs, to see that everything runs; the ratios mean little then.
        images: Folder of radiographs; None to use phantoms.
        model: Folder of a trained model; None where there is none.
    """

    quick: bool = False
    images: Path | None = None
    model: Path | None = None

    def rounds(self, full: int) -> int:
        """Choose the number of rounds.

        Args:
            full: Rounds of a complete run.
        """
        return 2 if self.quick else full


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table: a cost of this software relative to that of a peer.

    Attributes:
        name: What is compared, with its peer: "run lengths, encode, pycocotools".
        ours: Cost of this software, the median of the samples.
        peer: Cost of the peer.
        limit: Least ratio that is required; None if the line only informs.
        unit: Unit of both costs.
        quiet: Whether only samples without load by other processes were used.
        note: Why nothing was measured, or what limits the line.
    """

    name: str
    ours: float
    peer: float
    limit: float | None = None
    unit: str = "s"
    quiet: bool = True
    note: str = ""

    @classmethod
    def unmeasured(cls, name: str, *, limit: float | None = None, note: str) -> Self:
        """Make a line for what this machine cannot measure.

        Args:
            name: What would be compared.
            limit: Least ratio that is required.
            note: Why it was not measured.
        """
        return cls(name, math.nan, math.nan, limit, note=note)

    @property
    def ratio(self) -> float:
        """Cost of the peer divided by ours: more is better; NaN if nothing was measured."""
        return self.peer / self.ours if self.ours else math.inf

    @property
    def fraction(self) -> float | None:
        """Ratio divided by the limit; None without a limit."""
        return None if self.limit is None else self.ratio / self.limit

    @property
    def passed(self) -> bool | None:
        """Whether the ratio reaches the limit; None without a limit or a measurement."""
        return None if self.limit is None or math.isnan(self.ratio) else self.ratio >= self.limit

    def as_json(self) -> dict[str, Any]:
        """Convert to an entry of the JSON file; what is not a finite number becomes None."""
        fields = asdict(self) | {"ratio": self.ratio, "fraction": self.fraction, "passed": self.passed}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in fields.items()
        }


@dataclass(frozen=True, slots=True)
class Timing:
    """Cost of one side.

    Attributes:
        seconds: Median on the clock of one call.
        samples: Number of samples that were used.
        quiet: Whether these are only samples without load by other processes.
    """

    seconds: float
    samples: int
    quiet: bool


def take_turns(
    sides: Mapping[str, Callable[[], object]], *, rounds: int, sample_s: float = SAMPLE_S
) -> dict[str, Timing]:
    """Measure the median seconds of a call of each side.

    Each side is called once without measurement, which compiles and warms caches. Short work is repeated within a
    sample. The order rotates from round to round. Work on a GPU has to synchronise before it returns.

    Args:
        sides: Functions to measure, by name.
        rounds: Number of samples of each side.
        sample_s: Least seconds of a sample.
    """
    repeats = {name: _count_repeats(call, sample_s) for name, call in sides.items()}
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in sides}
    names = list(sides)
    for index in range(rounds):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(_sample(sides[name], repeats[name]))
    return {name: _summarise(taken) for name, taken in samples.items()}


def compare(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    limit: float | None,
    rounds: int,
    sample_s: float = SAMPLE_S,
    note: str = "",
) -> Comparison:
    """Compare two sides by interleaved samples.

    Args:
        name: What is compared, with its peer.
        ours: Work by this software.
        peer: The same work by the peer.
        limit: Least ratio of the peer's time to ours.
        rounds: Number of samples of each side.
        sample_s: Least seconds of a sample.
        note: Remark for the table.
    """
    turns = take_turns({"ours": ours, "peer": peer}, rounds=rounds, sample_s=sample_s)
    return relate(name, turns["ours"], turns["peer"], limit=limit, note=note)


def relate(name: str, ours: Timing, peer: Timing, *, limit: float | None, note: str = "") -> Comparison:
    """Make the line of two sides that took turns.

    Args:
        name: What is compared, with its peer.
        ours: Cost of this software.
        peer: Cost of the peer.
        limit: Least ratio of the peer's time to ours.
        note: Remark for the table.
    """
    return Comparison(name, ours.seconds, peer.seconds, limit, quiet=ours.quiet and peer.quiet, note=note)


def run(measure: Callable[[Setting], Sequence[Comparison]], description: str) -> None:
    """Run one benchmark from the command line: print its lines, and write them as JSON where asked to.

    Args:
        measure: The benchmark.
        description: Help of the command.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("--images", type=Path, help="folder of radiographs; phantoms if left out")
    parser.add_argument("--model", type=Path, help="folder of a trained model")
    parser.add_argument("--json", type=Path, help="file to write")
    words = parser.parse_args()
    lines = measure(Setting(words.quick, words.images, words.model))
    for line in lines:
        print(describe(line))
    if words.json:
        words.json.write_text(json.dumps([line.as_json() for line in lines], indent=2) + "\n")


def describe(line: Comparison) -> str:
    """Describe a line in one sentence: costs, ratio, limit, and the fraction of the limit that is reached.

    Args:
        line: Line of the table.
    """
    if math.isnan(line.ratio):
        return f"{line.name}: not measured ({line.note})"
    costs = f"{describe_cost(line.ours, line.unit)} against {describe_cost(line.peer, line.unit)}"
    required = "" if line.fraction is None else f", limit {line.limit:.2f}, fraction {line.fraction:.2f}"
    verdict = {None: "", True: ", passed", False: ", MISSED"}[line.passed]
    remarks = "".join(f"; {text}" for text in (line.note, "" if line.quiet else "machine was busy") if text)
    return f"{line.name}: {costs}, ratio {line.ratio:.2f}{required}{verdict}{remarks}"


def describe_cost(cost: float, unit: str) -> str:
    """Describe a cost with its unit, seconds with a fitting prefix.

    Args:
        cost: Seconds, or a number of another unit.
        unit: Unit of the cost.
    """
    if unit != "s":
        return f"{cost:.4g} {unit}"
    scale, name = next(
        pair for pair in ((1, "s"), (1e3, "ms"), (1e6, "us")) if cost * pair[0] >= 1 or pair[1] == "us"
    )
    return f"{cost * scale:.3g} {name}"


def _count_repeats(call: Callable[[], object], sample_s: float) -> int:
    """Count the calls that fill a sample, after one call that does not count."""
    call()
    started = time.perf_counter()
    call()
    return max(1, math.ceil(sample_s / max(time.perf_counter() - started, 1e-7)))


def _sample(call: Callable[[], object], repeats: int) -> tuple[float, bool]:
    """Measure the seconds of a call, and whether other processes left the processor alone meanwhile.

    A peer has been idle since its last turn, and some systems take back the memory of an idle process: its first calls
    are not measured.
    """
    if isinstance(call, Peer):
        for _ in range(_PEER_WARM_UP):
            call()
    busy, own, started = _busy_s(), _own_s(call), time.perf_counter()
    for _ in range(repeats):
        call()
    seconds = time.perf_counter() - started
    others = (_busy_s() - busy) - (_own_s(call) - own)
    return seconds / repeats, others < QUIET * seconds


def _own_s(call: Callable[[], object]) -> float:
    """Read the processor time of this process and of that of a peer."""
    return sum(os.times()[:4]) + (call.processor_s if isinstance(call, Peer) else 0)


def _busy_s() -> float:
    """Read the processor time of all processes since the start of the machine; 0 where the kernel does not tell."""
    try:
        user, nice, system, _idle, _wait, irq, soft_irq, steal = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")


def _summarise(samples: Sequence[tuple[float, bool]]) -> Timing:
    """Take the median of the quiet samples, or of all if the machine was hardly ever quiet."""
    quiet = [seconds for seconds, is_quiet in samples if is_quiet]
    enough = len(quiet) >= min(FEWEST, len(samples))
    used = quiet if enough else [seconds for seconds, _ in samples]
    return Timing(statistics.median(used), len(used), enough)
