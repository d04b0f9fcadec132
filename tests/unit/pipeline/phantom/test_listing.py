"""The list in ``data_manifests`` against the generator."""

import json
from pathlib import Path

import pytest

from pneumoseg.pipeline.phantom.listing import describe_case
from pneumoseg.pipeline.phantom.plan import plan_cases

LISTING = Path(__file__).parents[4] / "data_manifests" / "phantom.json"


def test_the_list_in_data_manifests_is_what_the_generator_makes() -> None:
    entries = json.loads(LISTING.read_text(encoding="utf-8"))["images"]
    cases = plan_cases()
    assert [entry["id"] for entry in entries] == [case.id for case in cases]
    ill = [index for index, entry in enumerate(entries) if entry["mask_areas_px"]]
    for index in sorted({ill[0], ill[1], ill[-1], 60, len(cases) - 1}):
        made, listed = describe_case(cases[index]), entries[index]
        # a pixel on the border may fall to the other side on another processor
        assert made.pop("mask_areas_px") == pytest.approx(listed.pop("mask_areas_px"), rel=0.02, abs=4)
        assert made == listed


def test_the_list_is_small() -> None:
    assert LISTING.stat().st_size < 100_000
