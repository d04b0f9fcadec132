"""Keep the weights of the best epochs, for the model, an average or an ensemble."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import Tensor, nn

from pneumoseg.pipeline.core.console import warn
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.model.weights import is_finite
from pneumoseg.pipeline.training.checkpoint import State, load_file, save_weights_file
from pneumoseg.pipeline.training.engines import RunEvents


class Rank(NamedTuple):
    """Rank of an epoch: the first number that differs decides which of two epochs is better.

    The Dice at the best operating point of each epoch stays at that of predicting nothing for a long while; until it
    rises, the other numbers show which network has learned more.
    """

    dice: float
    """Challenge score at the in-sample operating point."""
    auc: float
    """Area under the ROC curve of the image probabilities."""
    dice_positive: float
    """Mean Dice of the positives at a fixed threshold of 0.5."""

    @classmethod
    def of(cls, scores: Mapping[str, Any]) -> Self:
        """Rank an epoch.

        Args:
            scores: Scores from `ChallengeMetric`; one that is None, as all images are of one class, counts as 0.
        """
        return cls(scores["dice"], scores["auc"] or 0.0, scores["dice_positive_fixed"] or 0.0)


class Entry(NamedTuple):
    """An epoch that is kept; of two with the same rank, the later one is better."""

    rank: Rank
    epoch: int
    file: str


class BestEpochs:
    """Handler that keeps the weights of the best epochs as files; only the main process does so.

    Args:
        folder: Folder of the checkpoints.
        count: Number of epochs that are kept.
        network: Network whose weights are kept.
        first_epoch: First epoch that may be kept, that of the final resolution.
        by_scores: Whether scores rank the epochs; else the last ones are the best.

    Attributes:
        entries: Epochs that are kept, the best first.
    """

    def __init__(
        self, folder: Path, count: int, network: nn.Module, *, first_epoch: int = 1, by_scores: bool = True
    ) -> None:
        self.folder = folder
        self.count = count
        self.network = network
        self.first_epoch = first_epoch
        self.by_scores = by_scores
        self.entries: list[Entry] = []
        self._in_last_state: set[str] = set()  # files that the newest state names

    def attach(self, engine: Engine) -> None:
        """Keep the best epochs of the trainer *engine*, and fire `RunEvents.NEW_BEST` after the best one so far."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
            engine.add_event_handler(RunEvents.SAVED, self.delete_superseded)

    def _after_epoch(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if self.keep(engine.state.metrics, epoch):
            engine.fire_event(RunEvents.NEW_BEST)

    def keep(self, scores: Mapping[str, Any], epoch: int) -> bool:
        """Keep the present weights of the network if they are among the best.

        Args:
            scores: Scores of the epoch.
            epoch: Number of the epoch, from 1.

        Returns: Whether the epoch is the best one so far.

        Raises: JobError: If the weights cannot be written, and there are none of an earlier epoch.
        """
        if epoch < self.first_epoch:
            return False
        try:
            rank = (
                Rank.of(scores) if self.by_scores else Rank(0.0, 0.0, 0.0)
            )  # of equals, the later one is better
            return self.offer(rank, epoch, self.network.state_dict())
        except OSError as error:
            what = f"the weights of epoch {epoch} could not be saved ({error.strerror or error})"
            if not self.entries:
                raise JobError(
                    f"{self.folder}: {what}, and there are none of an earlier epoch; free some space, then --resume"
                ) from None
            warn(f"{what}; those of epoch {self.entries[0].epoch} are kept")
            return False

    def offer(self, rank: Rank, epoch: int, weights: Mapping[str, Tensor]) -> bool:
        """Keep the weights of an epoch if it is one of the best.

        Args:
            rank: Rank of the epoch.
            epoch: Number of the epoch, from 1.
            weights: State dict; one with non-finite values is never kept.

        Returns: Whether the epoch is the best one so far.

        Raises: OSError: If the disk is full; what was kept stays.
        """
        if not is_finite(weights):
            return False
        ranked = sorted([*self.entries, Entry(rank, epoch, "")], reverse=True)[: self.count]
        if epoch not in {entry.epoch for entry in ranked}:
            return False
        file = save_weights_file(
            self.folder, f"epoch{epoch:04d}", {"network": dict(weights), "rank": list(rank)}
        )
        self.entries = [Entry(rank, epoch, file) if entry.epoch == epoch else entry for entry in ranked]
        return self.entries[0].epoch == epoch

    def load(self, entry: Entry) -> dict[str, Tensor]:
        """Read the weights of an epoch.

        Args:
            entry: Epoch that is kept.

        Returns: State dict on the CPU.

        Raises: JobError: If the file is missing or damaged.
        """
        weights: dict[str, Tensor] = load_file(self.folder / entry.file)["network"]
        return weights

    def delete_superseded(self) -> None:
        """Delete the files that neither of the last two states names; call after a state was saved."""
        names = {entry.file for entry in self.entries}
        for path in self.folder.glob("epoch*-*.pt"):
            if path.name not in names | self._in_last_state:
                path.unlink(missing_ok=True)
        self._in_last_state = names

    def state_dict(self) -> State:
        """Return the entries as plain values, for a checkpoint."""
        return {"entries": [[*entry.rank, entry.epoch, entry.file] for entry in self.entries]}

    def load_state_dict(self, state: State) -> None:
        """Continue with the entries of a checkpoint; a damaged file is named, and the next best one takes its place.

        Args:
            state: What `state_dict` returned.
        """
        saved = [Entry(Rank(*rank), int(epoch), str(file)) for *rank, epoch, file in state["entries"]]
        self.entries = [entry for entry in saved if self._is_whole(entry)]
        if len(self.entries) < len(saved):
            self.entries = sorted([*self.entries, *self._others(saved)], reverse=True)[: self.count]
        self._in_last_state = {entry.file for entry in self.entries}

    def _is_whole(self, entry: Entry) -> bool:
        try:
            self.load(entry)
        except JobError as error:
            if idist.get_rank() == 0:
                warn(f"{error}; the run continues with the next best epoch")
            return False
        return True

    def _others(self, saved: Sequence[Entry]) -> Iterator[Entry]:
        """Yield whole files of epochs before the last of *saved*, which have not been deleted yet."""
        epochs = {entry.epoch for entry in saved}
        for path in self.folder.glob("epoch*-*.pt"):
            with suppress(JobError):
                epoch = int(path.name[len("epoch") :].partition("-")[0])
                if epoch < max(epochs) and epoch not in epochs:
                    yield Entry(Rank(*load_file(path)["rank"]), epoch, path.name)
