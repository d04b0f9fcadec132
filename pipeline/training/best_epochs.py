"""The weights of the best epochs, as files that a later average or ensemble may be made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from pneumoseg.pipeline.training.checkpoint import load_file, save_weights_file


class Rank(NamedTuple):
    """What makes an epoch better than another: the first number that differs decides.

    The Dice at the best operating point of each epoch stays at that of predicting nothing for a long while; until it
    rises, the others tell which network has learned more.
    """

    dice: float
    """The challenge's score at the in-sample operating point."""
    auc: float
    """Area under the ROC curve of the image probabilities."""
    dice_positive: float
    """Mean Dice of the positives at a fixed threshold of 0.5."""

    @classmethod
    def of(cls, scores: Mapping[str, Any]) -> Self:
        """Rank scores from `ChallengeMetric`; one that there is not, as all images are of one kind, counts as 0."""
        return cls(scores["dice"], scores["auc"] or 0.0, scores["dice_positive_fixed"] or 0.0)


class Entry(NamedTuple):
    """One epoch; a later epoch is the better one of two with the same rank."""

    rank: Rank
    epoch: int
    file: str


class BestEpochs:
    """Keeps the weights of the best few epochs.

    Args:
        folder: Folder of the checkpoints.
        count: Number of epochs that are kept.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.entries: list[Entry] = []

    def offer(self, rank: Rank, epoch: int, weights: Mapping[str, Tensor]) -> bool:
        """Keep the weights of an epoch if it is one of the best; return whether it is the best one.

        Weights with non-finite values are never kept.

        Raises: OSError: If the disk is full; what was kept stays.
        """
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            return False
        ranked = sorted([*self.entries, Entry(rank, epoch, "")], reverse=True)[: self.count]
        if epoch not in {entry.epoch for entry in ranked}:
            return False
        file = save_weights_file(self.folder, f"epoch{epoch:04d}", {"network": dict(weights)})
        self.entries = [Entry(rank, epoch, file) if entry.epoch == epoch else entry for entry in ranked]
        return self.entries[0].epoch == epoch

    def load(self, entry: Entry) -> dict[str, Tensor]:
        """Read the weights of an epoch.

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
        """Give the entries as a checkpoint holds them."""
        return [[*entry.rank, entry.epoch, entry.file] for entry in self.entries]

    def restore(self, state: list[list[Any]]) -> None:
        """Continue with the entries of a checkpoint."""
        self.entries = [Entry(Rank(*rank), int(epoch), str(file)) for *rank, epoch, file in state]
