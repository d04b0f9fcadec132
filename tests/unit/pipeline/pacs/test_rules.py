from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import SHAPE, write_radiograph
from tests.unit.pipeline.pacs.listeners import make_facts

from pneumoseg.pipeline.pacs.config import Rule
from pneumoseg.pipeline.pacs.rules import find_rule, read_image_facts
from pneumoseg.transforms.reader.reasons import RadiographError


def rule(name: str, **values: Any) -> Rule:
    return Rule.model_validate({"name": name, "send_to": "pacs", **values})


def test_the_first_rule_that_fits_decides() -> None:
    rules = [rule("lateral", view="LL"), rule("first"), rule("second")]
    found = find_rule(rules, make_facts(), ae="CR1")
    assert found is not None
    assert found.name == "first"


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"ae": "CR?"}, True),
        ({"ae": ["MR1", "cr1"]}, True),
        ({"ae": "CR"}, False),
        ({"modality": ["CR", "DX"]}, True),
        ({"view": "AP"}, False),
        ({"body_part": "*chest*"}, True),
        ({"study_description": "thorax*"}, True),
        ({"study_description": "Thorax"}, False),
        ({"modality": "DX", "view": "AP"}, False),
    ],
)
def test_a_condition_is_a_pattern_or_a_list_of_them(condition: dict[str, Any], fits: bool) -> None:
    assert (find_rule([rule("a", **condition)], make_facts(), ae="CR1") is not None) is fits


def test_results_that_an_archive_forwards_are_never_analysed(tmp_path: Path) -> None:
    """Each analysis of a picture of the last one would make another, without end."""
    path = write_radiograph(
        tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8), Manufacturer="pneumoseg developers"
    )
    facts = read_image_facts(path.read_bytes(), max_bytes=2**20)
    assert find_rule([rule("all")], facts, ae="CR1") is None
    assert find_rule([rule("all")], make_facts(), ae="CR1") is not None


def test_the_facts_of_an_image_are_read(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8), StudyDescription="Thorax")
    facts = read_image_facts(path.read_bytes(), max_bytes=2**20)
    assert (facts.study_uid, facts.sop_instance_uid) == ("1.2.3", "1.2.3.4")
    assert (facts.modality, facts.view, facts.body_part) == ("DX", "PA", "CHEST")
    assert facts.study_description == "Thorax"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_that_is_a_path_is_none(tmp_path: Path) -> None:
    path = write_radiograph(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8), StudyInstanceUID="../../x")
    assert read_image_facts(path.read_bytes(), max_bytes=2**20).study_uid is None


def test_what_is_no_dicom_has_no_facts() -> None:
    with pytest.raises(RadiographError):
        read_image_facts(b"\0" * 128 + b"DICM" + b"\xff" * 100, max_bytes=2**20)
