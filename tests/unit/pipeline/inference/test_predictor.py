import math

import numpy as np
import pytest
import torch
from tests.unit.pipeline.inference.networks import (
    CPU,
    Copy,
    constant,
    count_runs,
    member,
    predictor,
    probabilities,
    with_head,
)
from torch import Tensor
from torch.nn import functional

from pneumoseg.models import AttentionUNet, NetworkOutputs
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.inference import predictor as module
from pneumoseg.pipeline.inference.predictor import Prediction, images_at_once, top_mean
from pneumoseg.pipeline.model.weights import place
from pneumoseg.transforms.network_input import Placement

BF16 = Precision(CPU, torch.bfloat16)


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def by_itself(network: AttentionUNet, image: Tensor) -> Tensor:
    return torch.sigmoid(network(image))


# --- sizes and precision


def test_a_size_that_fits_goes_to_the_network_as_it_is(image: Tensor) -> None:
    network = member()
    assert torch.equal(probabilities(image, network), by_itself(network, image))


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_weights_that_a_fused_optimizer_changes_are_used_at_once(
    image: Tensor, optimizer: type[torch.optim.Optimizer]
) -> None:
    """Such an optimizer does not count its changes: a tensor's version stays as it is."""
    network = member()
    found = predictor(network)
    before = found.predict_batch(image).probabilities
    network(image).sum().backward()
    optimizer(network.parameters(), lr=0.1, fused=True).step()  # type: ignore[call-arg]
    after = found.predict_batch(image).probabilities
    assert not torch.equal(after, before)
    assert torch.equal(after, by_itself(network, image))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (15, 17), (16, 31), (33, 16)])
def test_any_size_comes_back_as_it_was(rows: int, columns: int) -> None:
    found = predictor(member(1), member(2)).predict_batch(torch.rand(1, 1, rows, columns), attention=True)
    assert found.attention is not None
    assert {each.shape for each in (found.probabilities, *found.attention)} == {(1, 1, rows, columns)}


@pytest.mark.parametrize("change", ["bytes", "three channels", "no channel"])
def test_what_is_no_batch_of_images_is_refused(image: Tensor, change: str) -> None:
    changed = {
        "bytes": image.byte(),
        "three channels": image.expand(-1, 3, -1, -1),
        "no channel": image[:, 0],
    }
    with pytest.raises(ValueError, match=r"floats of shape \(B, 1, H, W\), as `inference_chain` makes them"):
        predictor(member()).predict_batch(changed[change])


def test_content_of_another_shape_is_refused(image: Tensor) -> None:
    """With large images, the one without content would be lost."""
    with pytest.raises(ValueError, match=r"content of shape \(1, 1, 32, 48\) for images of \(2, 1, 32, 48\)"):
        predictor(member()).predict_batch(image, torch.ones(1, 1, 32, 48, dtype=torch.bool))


@pytest.mark.parametrize("stride", [16, 32])
def test_zeros_are_added_on_the_right_and_below_up_to_a_multiple_of_the_stride(stride: int) -> None:
    network = Copy()
    network.stride = stride
    found = predictor(network).predict_batch(torch.ones(1, 1, 40, 32))
    (given,) = network.given
    assert given.shape == (1, 1, -(-40 // stride) * stride, 32)
    assert given[0, 0, :, 0].tolist() == [1.0] * 40 + [0.0] * (given.shape[2] - 40)
    assert torch.equal(found.probabilities, torch.sigmoid(torch.ones(1, 1, 40, 32)))


def test_the_zeros_that_are_added_count_for_nothing() -> None:
    found = predictor(Copy()).predict_batch(torch.full((1, 1, 20, 20), -2.0))  # a logit of 0 in what is added
    assert found.image_probability.item() == pytest.approx(torch.sigmoid(torch.tensor(-2.0)).item())


def test_no_gradient_is_kept_and_no_dropout_is_left_on(image: Tensor) -> None:
    network = member().train()
    found = predictor(network).predict_batch(image)
    assert not found.probabilities.requires_grad
    assert not network.training


def test_bf16_gives_float32_probabilities_that_are_close(image: Tensor) -> None:
    network = member()
    exact, rough = probabilities(image, network), probabilities(image, network, precision=BF16)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0)


def test_channels_last_gives_the_same_probabilities(image: Tensor) -> None:
    network, other = member(), place(member(), CPU, channels_last=True)
    weight = other.encoder2.state_dict()[next(iter(other.encoder2.state_dict()))]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        probabilities(image, other), probabilities(image, network), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("tta", [(), ("flip", "scale")])
def test_a_network_with_an_encoder_is_padded_to_its_stride_and_has_four_maps(tta: tuple[str, ...]) -> None:
    network = member(encoder="efficientnet-lite0", image_head=True)
    image = torch.rand(1, 1, 48, 80, generator=torch.Generator().manual_seed(0))
    found = predictor(network, tta=tta).predict_batch(image, attention=True)
    padded = functional.pad(image, (0, 16, 0, 16))
    if not tta:
        torch.testing.assert_close(found.probabilities, by_itself(network, padded)[..., :48, :80])
    assert found.attention is not None
    assert [map_.shape for map_ in found.attention] == [(1, 1, 48, 80)] * 4


# --- ensembles


def test_the_probability_is_the_mean_of_the_members(image: Tensor) -> None:
    members = [member(seed) for seed in range(3)]
    expected = torch.stack([by_itself(each, image) for each in members]).mean(0)
    assert expected.std() > 0.01
    torch.testing.assert_close(probabilities(image, *members), expected, rtol=0, atol=1e-6)


def test_it_is_the_mean_of_probabilities_and_not_of_logits(image: Tensor) -> None:
    # the logits -2 and 6 have the probabilities 0.119203 and 0.997527
    found = probabilities(image, constant(-2.0), constant(6.0))
    assert found.mean().item() == pytest.approx((0.119203 + 0.997527) / 2, abs=1e-6)


@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_members_that_are_certain_give_0_or_1(image: Tensor, logit: float) -> None:
    found = probabilities(image, constant(logit), constant(logit))
    assert (found == float(logit > 0)).all()


def test_the_order_of_two_members_does_not_matter(image: Tensor) -> None:
    one, other = member(1), member(2)
    assert torch.equal(probabilities(image, one, other), probabilities(image, other, one))


def test_members_are_averaged_in_float32_also_under_bf16(image: Tensor) -> None:
    members = [member(1), member(2)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outside = [each(image) for each in members]
    assert outside[0].dtype == torch.bfloat16
    expected = torch.stack([torch.sigmoid(each.float()) for each in outside]).mean(0)
    torch.testing.assert_close(probabilities(image, *members, precision=BF16), expected, rtol=0, atol=1e-6)


# --- the image probability


def largest(found: Prediction) -> Tensor:
    """The largest probability of each image: of fewer than 2,000 pixels it is the mean of the largest permille."""
    return found.probabilities.amax(dim=(1, 2, 3))


def test_it_is_the_mean_of_the_image_head_and_of_the_largest_permille(image: Tensor) -> None:
    found = predictor(with_head(-2.0)).predict_batch(image)
    torch.testing.assert_close(found.image_probability, (0.119203 + largest(found)) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tta", [(), ("flip", "scale")])
def test_image_heads_are_averaged_as_probabilities(image: Tensor, tta: tuple[str, ...]) -> None:
    found = predictor(with_head(-2.0), with_head(6.0), tta=tta).predict_batch(image)
    head = (0.119203 + 0.997527) / 2
    torch.testing.assert_close(found.image_probability, (head + largest(found)) / 2, rtol=0, atol=1e-6)


def test_an_image_head_is_averaged_over_all_augmentations(image: Tensor) -> None:
    network = member(image_head=True)
    with torch.no_grad():
        heads = [network.forward_for_training(each).image_logits for each in (image, image.flip(-1))]
    one, other = (torch.sigmoid(each[:, 0]) for each in heads if each is not None)
    found = predictor(network, tta=("flip",)).predict_batch(image)
    assert (one != other).any()
    head = (one + other) / 2
    torch.testing.assert_close(found.image_probability, (head + largest(found)) / 2, rtol=0, atol=1e-6)


def test_without_a_head_it_is_the_mean_of_the_largest_permille_of_the_mean_map() -> None:
    large = torch.rand(2, 1, 64, 48, generator=torch.Generator().manual_seed(0))  # 3,072 pixels: 3 of them
    found = predictor(member(1), member(2), tta=("flip",)).predict_batch(large)
    expected = np.sort(found.probabilities.flatten(1).numpy(), axis=1)[:, -3:].mean(axis=1)
    np.testing.assert_allclose(found.image_probability, expected, atol=1e-6)


def test_of_a_small_image_it_is_the_largest_probability(image: Tensor) -> None:
    found = predictor(member()).predict_batch(image[..., :16, :])  # 768 pixels: a permille is less than one
    assert torch.equal(found.image_probability, largest(found))


# --- attention


def test_attention_is_the_mean_of_the_members_gate_by_gate(image: Tensor) -> None:
    members = [member(1), member(2)]
    found = predictor(*members, tta=("flip",)).predict_batch(image, attention=True).attention
    assert found is not None
    with torch.no_grad():
        first, second = (each.outputs(image).maps for each in members)
    for place_, (map_, one, other) in enumerate(zip(found, first, second, strict=True)):
        # deepest first, the finest at full size
        shrunk = map_[..., :: 2 ** (3 - place_), :: 2 ** (3 - place_)]
        torch.testing.assert_close(shrunk, (one + other) / 2)


def test_attention_comes_from_the_same_pass_as_the_probabilities(image: Tensor) -> None:
    network = member()
    runs = count_runs(network)
    found = predictor(network).predict_batch(image, attention=True)
    assert runs == [2]
    assert found.attention is not None
    assert predictor(network).predict_batch(image).attention is None


# --- what engines and streams take


def test_a_prediction_is_taken_apart_image_by_image(image: Tensor) -> None:
    whole = predictor(member()).predict_batch(image, attention=True)
    first, second = whole.images()
    assert first.probabilities.shape == (1, 32, 48)
    assert float(second.image_probability) == whole.image_probability[1]
    assert whole.attention is not None
    assert second.attention is not None
    assert torch.equal(second.attention[3], whole.attention[3][1])


def test_as_a_dictionary_it_holds_tensors_only(image: Tensor) -> None:
    plain = predictor(member()).predict_batch(image, attention=True).as_dict()
    sampled = predictor(member(), dropout_passes=2).predict_batch(image).as_dict()
    assert set(plain) == {"probabilities", "image_probability", "finite"}
    assert set(sampled) == {*plain, "pixel_std", "image_std"}
    assert sampled["image_std"].shape == (2, 1)


def test_a_result_does_not_depend_on_the_rest_of_the_batch() -> None:
    large = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    model = predictor(Copy(), tta=("flip",))
    whole, alone = model.predict_batch(large), model.predict_batch(large[1:2])
    assert torch.equal(whole.image_probability[1:2], alone.image_probability)


def test_a_processor_computes_large_images_of_a_batch_one_by_one(
    image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = image > 0.1
    together = predictor(member(), tta=("flip",)).predict_batch(image, content, attention=True)
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", image[0].numel())
    network = member()
    sizes = count_runs(network)
    found = predictor(network, tta=("flip",)).predict_batch(image, content, attention=True)
    assert sizes == [1, 1, 1, 1]
    torch.testing.assert_close(found.as_dict(), together.as_dict())
    torch.testing.assert_close(found.attention, together.attention)
    assert found.finite is not None
    assert found.finite.tolist() == [True, True]


def test_a_gpu_computes_all_images_of_a_batch_together() -> None:
    assert images_at_once(torch.device("cuda:0"), 1024) is None
    assert [images_at_once(CPU, size) for size in (64, 128, 256, 1024)] == [16, 4, 1, 1]


# --- logits that are no numbers


class Overflowing(Copy):
    """A network whose logits are the image times the largest number."""

    def outputs(self, image: Tensor) -> NetworkOutputs:
        return NetworkOutputs(image[:, :1] * torch.finfo(torch.float32).max, None, [])


@pytest.mark.parametrize("tta", [(), ("flip",)])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_non_finite_logits_are_an_error_of_one_line(value: float, tta: tuple[str, ...]) -> None:
    images = torch.zeros(3, 1, 16, 16)
    images[1, 0, 3, 3] = value
    with pytest.raises(JobError, match="for 1 of 3 images") as caught:
        predictor(Copy(), tta=tta).predict_batch(images)
    assert len(str(caught.value).splitlines()) == 1


def test_a_non_finite_image_head_is_an_error(image: Tensor) -> None:
    with pytest.raises(JobError, match="non-finite"):
        predictor(with_head(math.inf)).predict_batch(image)


def test_logits_that_overflow_are_an_error_in_each_member_and_each_dropout_sample(image: Tensor) -> None:
    for networks, options in (((Overflowing(),), {}), ((Copy(), Overflowing()), {})):
        with pytest.raises(JobError, match="non-finite"):
            predictor(*networks, **options).predict_batch(image * 10)
    network = member(dropout=0.5)
    with torch.no_grad():
        network.head.weight.fill_(torch.inf)
    with pytest.raises(JobError, match="non-finite"):
        predictor(network, dropout_passes=2).predict_batch(image)


def test_the_check_can_be_left_to_who_waits_for_the_results(image: Tensor) -> None:
    prediction = predictor(constant(math.inf)).predict_batch(image, check=False)
    with pytest.raises(JobError, match="non-finite"):
        prediction.check()
    predictor(constant(1.0)).predict_batch(image, check=False).check()


# --- image probability without an image head


def test_the_share_is_one_of_the_images_own_pixels() -> None:
    probabilities = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
    own = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    own[..., 32:, :] = False  # the upper half: 2,048 pixels, of which two are averaged
    expected = probabilities[0, 0, 31, -2:].mean()
    torch.testing.assert_close(top_mean(probabilities, own), expected[None], rtol=0, atol=1e-6)


def test_the_padding_of_an_image_does_not_count() -> None:
    """The network is certain of the padding, and predicts at most 0.5 elsewhere."""
    image = torch.full((1, 1, 48, 48), 9.0)
    image[..., 8:40] = -torch.rand(48, 32, generator=torch.Generator().manual_seed(0))
    model = predictor(Copy())
    assert model.predict_batch(image).image_probability.item() > 0.99
    assert (
        model.predict_batch(image, Placement.of((96, 64), 48).mask(48)[None]).image_probability.item() <= 0.5
    )
