from collections.abc import Sequence
from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pneumoseg.models import TrainingOutputs
from pneumoseg.pipeline.core.loss_terms import (
    BCETerm,
    DiceTerm,
    FocalTerm,
    LossTerm,
    LovaszTerm,
    TverskyTerm,
    lovasz_hinge,
)
from pneumoseg.pipeline.training.losses import TrainingLoss

TERMS: list[LossTerm] = [BCETerm(), DiceTerm(), FocalTerm(), TverskyTerm(), LovaszTerm()]


def logit(*probabilities: float) -> Tensor:
    """Logits of a batch of one image of one row."""
    return torch.logit(torch.tensor(probabilities)).view(1, 1, 1, -1)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def some(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(shape, generator=generator) > 0.6).float()
    return 2 * torch.randn(shape, generator=generator), label


def total(
    terms: Sequence[LossTerm],
    outputs: TrainingOutputs,
    label: Tensor,
    positive: Sequence[float] | None = None,
    **weights: float,
) -> Tensor:
    loss = TrainingLoss(terms, **{"deep_weight": 0.5, "image_weight": 0.1, **weights})
    return loss(outputs, label, torch.tensor(positive or [0.0] * len(label)))


# --- the terms


def test_bce_is_the_mean_cross_entropy_of_the_pixels() -> None:
    # -(ln 0.8 + ln 0.4) / 2
    loss = BCETerm().make()(logit(0.8, 0.6), row(1, 0))
    assert loss.item() == pytest.approx(-(log(0.8) + log(0.4)) / 2, abs=1e-6)


def test_a_weight_of_positives_counts_pixels_of_a_pneumothorax_more_often() -> None:
    loss = BCETerm(positive_weight=3).make()(logit(0.8, 0.6), row(1, 0))
    assert loss.item() == pytest.approx(-(3 * log(0.8) + log(0.4)) / 2, abs=1e-6)


def test_dice_is_one_minus_twice_the_overlap_by_the_sum() -> None:
    # overlap 0.8 + 0.3, sums 0.8 + 0.3 + 0.5 and 2: 1 - 2.2 / 3.6
    loss = DiceTerm().make()(logit(0.8, 0.3, 0.5), row(1, 1, 0))
    assert loss.item() == pytest.approx(1 - 2.2 / 3.6, abs=1e-4)


@pytest.mark.parametrize("term", [DiceTerm(), TverskyTerm(), LovaszTerm()])
def test_region_losses_look_at_the_batch_as_one_image(term: LossTerm) -> None:
    logits, label = some(2, 1, 3, 4)
    as_one = term.make()(logits.view(1, 1, 6, 4), label.view(1, 1, 6, 4))
    torch.testing.assert_close(term.make()(logits, label), as_one)


def test_focal_weighs_each_pixel_by_how_wrong_it_is() -> None:
    # Lin et al. 2017: -(1 - p)^gamma ln p, p the probability of what is true
    loss = FocalTerm(gamma=2).make()(logit(0.8, 0.6), row(1, 0))
    assert loss.item() == pytest.approx(-(0.2**2 * log(0.8) + 0.6**2 * log(0.4)) / 2, abs=1e-6)


def test_focal_with_gamma_0_is_the_cross_entropy() -> None:
    logits, label = some(2, 1, 4, 4)
    expected = functional.binary_cross_entropy_with_logits(logits, label)
    torch.testing.assert_close(FocalTerm(gamma=0).make()(logits, label), expected)


def test_tversky_prices_what_is_missed_and_what_is_drawn_in_vain() -> None:
    # Salehi et al. 2017: TP = 1.1, FP = 0.5, FN = 0.2 + 0.7; 1 - TP / (TP + 0.3 FP + 0.7 FN)
    loss = TverskyTerm().make()(logit(0.8, 0.3, 0.5), row(1, 1, 0))
    assert loss.item() == pytest.approx(1 - 1.1 / (1.1 + 0.3 * 0.5 + 0.7 * 0.9), abs=1e-4)


def test_tversky_with_equal_prices_is_dice() -> None:
    logits, label = some(2, 1, 4, 4)
    tversky = TverskyTerm(false_positives=0.5, false_negatives=0.5).make()(logits, label)
    torch.testing.assert_close(tversky, DiceTerm().make()(logits, label), rtol=0, atol=1e-4)


# --- the Lovasz hinge


def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
    """Berman et al. 2018, equation 6: the share of wrong pixels among those of the label or of the prediction."""
    return len(wrong) / len(truth | wrong) if wrong else 0.0


def literal_lovasz_hinge(logits: list[float], label: list[int]) -> float:
    """Definition 2 and equation 9 of Berman et al. 2018, word for word, with sets instead of cumulated sums."""
    truth = {pixel for pixel, positive in enumerate(label) if positive}
    margins = [max(0.0, 1 - score * (1 if y else -1)) for score, y in zip(logits, label, strict=True)]
    total = 0.0
    wrong: set[int] = set()
    for pixel in sorted(range(len(label)), key=lambda pixel: -margins[pixel]):
        with_it = wrong | {pixel}
        total += margins[pixel] * (jaccard_loss(with_it, truth) - jaccard_loss(wrong, truth))
        wrong = with_it
    return total


@pytest.mark.parametrize("seed", range(10))
def test_the_lovasz_hinge_is_that_of_the_paper(seed: int) -> None:
    logits, label = some(1, 1, 5, 6, seed=seed)
    expected = literal_lovasz_hinge(logits.flatten().tolist(), label.flatten().int().tolist())
    assert lovasz_hinge(logits, label).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("pred", "label", "iou"),
    [
        ((1, 1, 0, 0), (1, 1, 0, 0), 1.0),
        ((1, 0, 0, 0), (1, 1, 0, 0), 1 / 2),
        ((1, 1, 1, 0), (1, 0, 0, 1), 1 / 4),
        ((0, 0, 1, 1), (1, 1, 0, 0), 0.0),
        ((0, 0, 0, 0), (1, 0, 0, 0), 0.0),
    ],
)
def test_where_all_is_surely_right_or_surely_wrong_it_is_twice_one_minus_iou(
    pred: tuple[int, ...], label: tuple[int, ...], iou: float
) -> None:
    logits = 2 * row(*pred) - 1  # of 1 and -1: the hinge is 2 where they are wrong, 0 where they are right
    assert lovasz_hinge(logits, row(*label)).item() == pytest.approx(2 * (1 - iou), abs=1e-6)


def test_it_counts_in_integers_which_cuda_adds_up_deterministically(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    cumsum = Tensor.cumsum

    def noted(values: Tensor, dim: int) -> Tensor:
        seen.append(values.dtype)
        return cumsum(values, dim)

    monkeypatch.setattr(Tensor, "cumsum", noted)
    lovasz_hinge(*some(1, 1, 4, 4))
    assert seen == [torch.int64, torch.int64]


def test_its_gradients_are_numbers_where_a_label_is_empty() -> None:
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    torch.autograd.backward(lovasz_hinge(logits, torch.zeros(2, 1, 4, 4)))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    # one pixel drawn in vain costs the whole Jaccard index
    assert logits.grad.sum().item() == pytest.approx(1)


def test_its_gradients_are_numbers_where_a_label_is_full() -> None:
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    torch.autograd.backward(lovasz_hinge(logits, torch.ones(2, 1, 4, 4)))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.sum().item() == pytest.approx(-1)


def test_a_pixel_counts_as_pneumothorax_from_more_than_one_half_on() -> None:
    logits = row(0.3, -0.2, 0.1)
    result = lovasz_hinge(logits, row(0.5, 0.51, 1))
    assert result.item() == pytest.approx(literal_lovasz_hinge([0.3, -0.2, 0.1], [0, 1, 1]), abs=1e-6)


# --- their sum


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    logits, label = some(2, 1, 8, 8)
    terms: list[LossTerm] = [BCETerm(weight=2), DiceTerm(weight=0.5)]
    probabilities = torch.sigmoid(logits)
    dice = 1 - 2 * (probabilities * label).sum() / (probabilities.sum() + label.sum())
    expected = 2 * functional.binary_cross_entropy_with_logits(logits, label) + 0.5 * dice
    result = total(terms, TrainingOutputs(logits, [], None), label)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_lower_levels_count_half_a_quarter_and_an_eighth() -> None:
    # logits 0 cost ln 2 at each level, whatever the label
    deep = [torch.zeros(2, 1, size, size) for size in (8, 4, 2)]
    outputs = TrainingOutputs(torch.zeros(2, 1, 16, 16), deep, None)
    result = total([BCETerm()], outputs, torch.zeros(2, 1, 16, 16), deep_weight=0.5)
    assert result.item() == pytest.approx(log(2) * (1 + 1 / 2 + 1 / 4 + 1 / 8), abs=1e-6)


def test_lower_levels_learn_the_share_of_a_pixel_that_is_pneumothorax() -> None:
    label = torch.zeros(1, 1, 4, 4)
    label[0, 0, 0, :3] = 1  # of the quarters 2/4 and 1/4 above, none below
    shares = torch.tensor([[[[0.5, 0.25], [0.0, 0.0]]]])
    deep = torch.tensor([[[[0.3, -1.0], [2.0, -0.5]]]])
    outputs = TrainingOutputs(torch.full((1, 1, 4, 4), 0.0), [deep], None)
    expected = log(2) + functional.binary_cross_entropy_with_logits(deep, shares).item()
    assert total([BCETerm()], outputs, label, deep_weight=1).item() == pytest.approx(expected, abs=1e-6)


def test_the_image_head_learns_the_original_mask_also_where_no_pixel_of_the_label_is_half_full() -> None:
    label = torch.zeros(2, 1, 4, 4)
    label[1, 0, 2, 3] = 0.25
    outputs = TrainingOutputs(torch.zeros(2, 1, 4, 4), [], torch.tensor([[-2.0], [1.0]]))
    # -ln(1 - s(-2)) for the empty one, -ln s(1) for the other one, s the logistic function
    of_images = (log(1 + exp(-2)) + log(1 + exp(-1))) / 2
    result = total([BCETerm()], outputs, label, positive=[0, 1], image_weight=0.1)
    assert result.item() == pytest.approx(log(2) + 0.1 * of_images, abs=1e-6)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_every_loss_is_computed_in_float32_also_of_bf16_logits(term: LossTerm) -> None:
    logits, label = some(2, 1, 16, 16)
    rounded = logits.bfloat16()
    deep = functional.avg_pool2d(logits, 2).bfloat16()
    image = torch.tensor([[0.3], [-0.2]]).bfloat16()
    result = total([term], TrainingOutputs(rounded, [deep], image), label)
    expected = total([term], TrainingOutputs(rounded.float(), [deep.float()], image.float()), label)
    assert result.dtype == torch.float32
    assert result.item() == expected.item()


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_every_loss_and_its_gradients_are_numbers_at_the_ends_of_float32(
    term: LossTerm, value: float
) -> None:
    logits = torch.tensor([-200.0, 200.0, 0.0, 30.0]).view(1, 1, 2, 2).requires_grad_()
    loss = total([term], TrainingOutputs(logits, [], None), torch.full((1, 1, 2, 2), value))
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_every_loss_falls_when_the_logits_become_right(term: LossTerm) -> None:
    _, label = some(2, 1, 8, 8)
    right = 2 * label - 1
    losses = [term.make()(size * right, label).item() for size in (-1.0, 0.0, 0.5)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 3
