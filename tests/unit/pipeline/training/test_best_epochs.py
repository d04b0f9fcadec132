import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.training.best_epochs import BestEpochs, Rank


def weights(value: float = 0.0) -> dict[str, Tensor]:
    return {"w": torch.full((3,), value), "seen": torch.tensor(7)}


def offered(folder: Path, *dices: float, count: int = 2) -> BestEpochs:
    """Epochs from 1 on, the weights of each its number."""
    best = BestEpochs(folder, count, nn.Identity())
    for epoch, dice in enumerate(dices, start=1):
        best.offer(rank(dice), epoch, weights(epoch))
    return best


def rank(dice: float, auc: float = 0.5, dice_positive: float = 0.0) -> Rank:
    return Rank(dice, auc, dice_positive)


def epochs(best: BestEpochs) -> list[int]:
    return [entry.epoch for entry in best.entries]


def test_as_many_as_asked_for_are_kept_the_best_first(tmp_path: Path) -> None:
    assert epochs(offered(tmp_path, 0.3, 0.9, 0.1, 0.5, count=3)) == [2, 4, 1]


def test_among_equals_the_longer_trained_one_is_better(tmp_path: Path) -> None:
    assert epochs(offered(tmp_path, 0.7, 0.7, 0.7)) == [3, 2]


def test_without_scores_the_last_ones_are_the_best(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    best = BestEpochs(tmp_path, 2, network, first_epoch=2, by_scores=False)
    for epoch, dice in enumerate((0.9, 0.9, 0.1), start=1):
        best.keep({"dice": dice, "auc": dice, "dice_positive_fixed": dice}, epoch)
    assert best.keep({}, 4)  # as after a training on all images
    assert epochs(best) == [4, 3]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (rank(0.81, 0.5, 0.0), rank(0.8, 0.9, 0.9)),
        (rank(0.8, 0.7, 0.0), rank(0.8, 0.6, 0.9)),
        (rank(0.8, 0.7, 0.2), rank(0.8, 0.7, 0.1)),
    ],
)
def test_dice_ranks_before_auc_and_auc_before_dice_on_positives(
    tmp_path: Path, better: Rank, worse: Rank
) -> None:
    best = BestEpochs(tmp_path, 1, nn.Identity())
    best.offer(better, 1, weights(1))
    assert best.offer(worse, 2, weights(2)) is False
    assert epochs(best) == [1]


def test_a_score_that_images_of_one_kind_do_not_have_counts_as_0() -> None:
    scores = {"dice": 0.8, "auc": None, "dice_positive_fixed": None, "loss": 3.0}
    assert Rank.of(scores) == Rank(0.8, 0.0, 0.0)


def test_an_offer_returns_whether_the_epoch_is_the_best_one(tmp_path: Path) -> None:
    best = BestEpochs(tmp_path, 2, nn.Identity())
    is_best = [
        best.offer(rank(dice), epoch, weights())
        for epoch, dice in enumerate((0.5, 0.4, 0.6, 0.6, 0.1), start=1)
    ]
    assert is_best == [True, False, True, True, False]


def test_the_weights_of_each_can_be_read_back(tmp_path: Path) -> None:
    best = offered(tmp_path, 0.3, 0.9, 0.5)
    for entry in best.entries:
        loaded = best.load(entry)
        assert loaded["w"].tolist() == [entry.epoch] * 3
        assert loaded["seen"].item() == 7


def test_an_epoch_that_is_none_of_the_best_is_not_written(tmp_path: Path) -> None:
    offered(tmp_path, 0.9, 0.8, 0.1)
    assert sorted(path.name[:9] for path in tmp_path.iterdir()) == ["epoch0001", "epoch0002"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_weights_are_never_kept(tmp_path: Path, bad: float) -> None:
    best = BestEpochs(tmp_path, 2, nn.Identity())
    assert best.offer(rank(1.0), 1, weights(bad)) is False
    assert (best.entries, list(tmp_path.iterdir())) == ([], [])


def test_on_a_full_disk_what_was_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = offered(tmp_path, 0.5, 0.4)
    entries, files = list(best.entries), sorted(tmp_path.iterdir())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        best.offer(rank(0.9), 3, weights(3))
    assert (best.entries, sorted(tmp_path.iterdir())) == (entries, files)


def test_files_are_deleted_that_neither_of_the_last_two_states_names(tmp_path: Path) -> None:
    best = offered(tmp_path, 0.1, 0.2, count=2)
    best.delete_superseded()
    for epoch, dice in ((3, 0.3), (4, 0.4)):
        best.offer(rank(dice), epoch, weights(epoch))
    best.delete_superseded()
    assert len(list(tmp_path.iterdir())) == 4
    best.delete_superseded()
    assert {path.name for path in tmp_path.iterdir()} == {entry.file for entry in best.entries}
    assert epochs(best) == [4, 3]


def test_nothing_but_weights_of_epochs_is_deleted(tmp_path: Path) -> None:
    best = offered(tmp_path, 0.1)
    (tmp_path / "state-000001-ab.pt").touch()
    (tmp_path / "epoch-notes.txt").touch()
    best.delete_superseded()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_resumed_run_knows_its_best_epochs(tmp_path: Path) -> None:
    best = offered(tmp_path, 0.3, 0.9, 0.5)
    torch.save(best.state_dict(), tmp_path / "state.pt")
    again = BestEpochs(tmp_path, 2, nn.Identity())
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.entries == best.entries
    assert again.offer(rank(0.7), 4, weights(4)) is False
    assert epochs(again) == [2, 4]


def test_weights_that_were_damaged_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    best = offered(tmp_path, 0.5)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JobError, match=f"{path.name}: is damaged"):
        best.load(best.entries[0])
    path.unlink()
    with pytest.raises(JobError, match=f"{path.name}: cannot be read"):
        best.load(best.entries[0])


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def resumed(best: BestEpochs) -> BestEpochs:
    again = BestEpochs(best.folder, best.count, nn.Identity())
    again.load_state_dict(best.state_dict())
    return again


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_file_is_named_on_resume_and_the_next_best_take_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    best = offered(tmp_path, 0.3, 0.9, 0.5, count=2)  # the file of epoch 1 has not been deleted yet
    lost = best.entries[place]
    damage(tmp_path / lost.file)
    again = resumed(best)
    assert epochs(again) == [*(entry.epoch for entry in best.entries if entry is not lost), 1]
    assert again.load(again.entries[-1])["w"].tolist() == [1, 1, 1]
    told = capsys.readouterr().err
    assert lost.file in "".join(told.split())
    assert told.count("next best epoch") == 1


def test_an_epoch_after_the_checkpoint_is_no_next_best_one(tmp_path: Path) -> None:
    best = offered(tmp_path, 0.3, count=1)
    state = best.state_dict()
    best.offer(rank(0.9), 2, weights(2))  # the run was killed before this was part of a checkpoint
    damage(tmp_path / state["entries"][0][-1])
    again = BestEpochs(tmp_path, 1, nn.Identity())
    again.load_state_dict(state)
    assert again.entries == []


def test_whole_files_are_resumed_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = offered(tmp_path, 0.3, 0.9, 0.5, count=2)
    assert resumed(best).entries == best.entries
    assert capsys.readouterr().err == ""


def test_the_first_weights_that_cannot_be_saved_end_the_run_and_later_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    scores = {"dice": 0.5, "auc": None, "dice_positive_fixed": None}
    best = BestEpochs(tmp_path, 1, nn.Linear(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            JobError, match=r"epoch 1 could not be saved \(No space left on device\)"
        ) as caught:
            best.keep(scores, 1)
    assert len(str(caught.value).splitlines()) == 1
    assert best.keep(scores, 1)
    monkeypatch.setattr(os, "fsync", full)
    assert not best.keep({**scores, "dice": 0.9}, 2)
    assert "those of epoch 1 are kept" in " ".join(capsys.readouterr().err.split())
