import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from pneumoseg.models import ENCODERS, AttentionUNet
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.model.block_picture import draw_layers
from pneumoseg.pipeline.model.layer_table import Layer, describe_network

needs_graphviz = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the program dot of Graphviz is missing"
)


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return describe_network(AttentionUNet())


@pytest.fixture
def svg(layers: list[Layer], tmp_path: Path) -> ET.Element:
    draw_layers(layers, tmp_path / "network.svg")
    return ET.parse(tmp_path / "network.svg").getroot()


def titles(svg: ET.Element, kind: str) -> set[str]:
    groups = svg.findall(f".//{{*}}g[@class='{kind}']")
    return {str(group.findtext("{*}title")) for group in groups}


@needs_graphviz
def test_a_png_is_a_picture_that_pillow_opens(layers: list[Layer], tmp_path: Path) -> None:
    draw_layers(layers, tmp_path / "network.png")
    with Image.open(tmp_path / "network.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500


@needs_graphviz
def test_a_suffix_in_capitals_is_understood(layers: list[Layer], tmp_path: Path) -> None:
    draw_layers(layers, tmp_path / "NETWORK.PDF")
    assert (tmp_path / "NETWORK.PDF").read_bytes().startswith(b"%PDF")


@needs_graphviz
def test_every_block_of_the_figure_is_a_box(svg: ET.Element) -> None:
    levels = "1234"
    expected = {f"{kind}{level}" for kind in ("encoder", "pool", "up", "gate", "decoder") for level in levels}
    expected |= {"image", "bottleneck", "head"}
    expected |= {"concatenate", "concatenate_1", "concatenate_2", "concatenate_3"}
    assert titles(svg, "node") == expected


@needs_graphviz
def test_arrows_run_from_block_to_block_as_in_the_figure(svg: ET.Element) -> None:
    edges = titles(svg, "edge")
    assert {
        "encoder4->pool4",
        "encoder4->gate4",
        "up4->gate4",
        "gate4->concatenate",
        "up4->concatenate",
    } <= edges
    # image to encoder; 4 pools with 2 arrows each; 4 ups, gates, joints, decoders with 1 + 2 + 2 + 1; head
    assert len(edges) == 1 + 4 * 2 + 4 * 6 + 1


@needs_graphviz
def test_a_box_shows_the_output_shape_and_the_parameters(svg: ET.Element) -> None:
    texts = {"".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"bottleneck", "512×10×10", "3,539,968 parameters"} <= texts  # 1,180,160 + 2,359,808
    assert {"gate4", "98,689 parameters"} <= texts  # 32,896 + 65,664 + 129


@needs_graphviz
def test_boxes_stand_on_the_levels_of_the_u(svg: ET.Element) -> None:
    heights: dict[str, float] = {}
    for group in svg.findall(".//{*}g[@class='node']"):
        corners = re.findall(r"(-?[\d.]+),(-?[\d.]+)", str(group.find("{*}path").get("d")))  # type: ignore[union-attr]
        rows = [float(y) for _, y in corners]
        heights[str(group.findtext("{*}title"))] = (min(rows) + max(rows)) / 2
    for level in "1234":
        assert heights[f"encoder{level}"] == pytest.approx(heights[f"gate{level}"], abs=1)
        assert heights[f"encoder{level}"] == pytest.approx(heights[f"decoder{level}"], abs=1)
    assert heights["encoder1"] < heights["encoder2"] < heights["encoder4"] < heights["bottleneck"]


@needs_graphviz
@pytest.mark.slow
def test_an_encoder_and_all_heads_have_their_boxes(tmp_path: Path) -> None:
    network = AttentionUNet(
        encoder=ENCODERS["efficientnet-lite0"](),
        features=(4, 8, 8, 8, 8),
        deep_supervision=True,
        image_head=True,
    )
    draw_layers(describe_network(network, image_size=(64, 64)), tmp_path / "network.svg")
    svg = ET.parse(tmp_path / "network.svg").getroot()
    boxes, arrows = titles(svg, "node"), titles(svg, "edge")
    assert {f"encoder{level}" for level in range(1, 6)} <= boxes
    assert {"head", "head2", "head3", "head4", "image_head"} <= boxes
    assert "gate1" not in boxes
    expected = {"encoder4->encoder5", "encoder1->gate2", "encoder5->up5", "decoder2->head2", "up1->decoder1"}
    assert expected <= arrows


@needs_graphviz
def test_drawing_twice_gives_the_same_picture(layers: list[Layer], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_layers(layers, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@needs_graphviz
def test_a_network_is_drawn_for_the_size_that_is_asked(tmp_path: Path) -> None:
    draw_layers(describe_network(AttentionUNet(), image_size=(32, 64)), tmp_path / "network.svg")
    assert "512×2×4" in (tmp_path / "network.svg").read_text(encoding="utf-8")


def test_a_missing_graphviz_is_one_clear_line_and_leaves_nothing_behind(
    layers: list[Layer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(JobError, match=r"`dot` of Graphviz.*apt install graphviz") as caught:
        draw_layers(layers, tmp_path / "network.png")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["network.jpg", "network", "network.dot"])
def test_another_kind_of_picture_is_a_usage_error(layers: list[Layer], tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"a picture ends in one of .png, .svg, .pdf"):
        draw_layers(layers, tmp_path / name)
