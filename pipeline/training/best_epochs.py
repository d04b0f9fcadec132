"""The weights of the best epochs, as files that a later average or ensemble may be made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pneumoseg.pipeline.training.checkpoint import load_file, save_weights_file


class Entry(NamedTuple):
    """One epoch."""

    dice: float
    epoch: int
    file: str


class BestEpochs:
    """Keeps the weights of a few epochs.

    Args:
        folder: Of the checkpoints.
        count: How many are kept.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.entries: list[Entry] = []

    def offer(self, dice: float, epoch: int, weights: Mapping[str, Tensor]) -> bool:
        """Keep the weights of an epoch if it is one of the best; gives whether it is the best one.

        An untrained network ties with predicting nothing: among equals the longer trained one is better. Weights
        that are no numbers are never kept.

        Raises: OSError: If the disk is full; what was kept stays.
        """
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            return False
        ranked = sorted([*self.entries, Entry(dice, epoch, "")], reverse=True)[: self.count]
        if epoch not in {entry.epoch for entry in ranked}:
            return False
        file = save_weights_file(self.folder, f"epoch{epoch:04d}", {"network": dict(weights)})
        self.entries = [Entry(dice, epoch, file) if entry.epoch == epoch else entry for entry in ranked]
        return self.entries[0].epoch == epoch

    def load(self, entry: Entry) -> dict[str, Tensor]:
        """The weights of an epoch.

        Raises: JobError: If the file is missing or damaged.
        """
        weights: dict[str, Tensor] = load_file(self.folder / entry.file)["network"]
        return weights

    def delete_others(self, kept: set[str]) -> None:
        """Delete all files but those of the entries and those that an older state still names."""
        kept = kept | {entry.file for entry in self.entries}
        for path in self.folder.glob("epoch*-*.pt"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def state(self) -> list[list[float | int | str]]:
        """For a checkpoint."""
        return [list(entry) for entry in self.entries]

    def restore(self, state: list[list[float | int | str]]) -> None:
        """Go on from there."""
        self.entries = [Entry(float(dice), int(epoch), str(file)) for dice, epoch, file in state]
