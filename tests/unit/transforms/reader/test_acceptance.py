from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from pneumoseg.transforms.reader.acceptance import (
    AcceptanceFilters,
    read_body_part,
    read_view,
    show,
)
from pneumoseg.transforms.reader.elements import Elements
from pneumoseg.transforms.reader.reasons import RadiographError, Reason
from pneumoseg.transforms.reader.record import read_directions

MakeHeader = Callable[..., Elements]


@pytest.mark.parametrize(
    "view",
    [
        *(
            "",
            "AP",
            "PA",
            "AP AXIAL",
            "PA_ERECT",
            "FRONTAL",
            "POSTERO-ANTERIOR",
            "P-A",
            "P.A.",
            "A.P.",
            "A/P",
            "A-P",
        ),
        *(
            "FRONTALE",
            "POSTÉRO-ANTÉRIEUR",
            "ANTEROPOSTERIEUR",
            "Posteroanterior",
            "FACE",
            "FRENTE",
            "正位",
            "ПРЯМАЯ",
        ),
    ],
)
def test_frontal_and_unknown_views_pass(view: str) -> None:
    AcceptanceFilters().check_view(view)


@pytest.mark.parametrize(
    "view",
    [
        *(
            "LL",
            "RL",
            "LATERAL",
            "LAO",
            "AP LLD",
            "PA OBLIQUE",
            "MLO",
            "0",
            "GAP",
            "LATERALE",
            "LÁTERO-LATERAL",
        ),
        *(
            "PROFIL",
            "PERFIL",
            "SEITLICH",
            "LAT",
            "L LAT",
            "OBLICUA",
            "SCHRÄG",
            "侧位",
            "側面",
            "БОКОВАЯ",
            "BOCZNA",
        ),
    ],
)
def test_other_views_are_skipped(view: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_view(view)
    assert caught.value.reason is Reason.WRONG_VIEW


@pytest.mark.parametrize(
    "part",
    [
        *(
            "",
            "CHEST",
            "PORT CHEST",
            "THORAX",
            "CHEST_ABDOMEN",
            "LUNG",
            "TÓRAX",
            "POUMON",
            "BRUST",
            "CXR",
            "TORACE",
        ),
        *(
            "POUMONS",
            "PULMÓN",
            "POLMONI",
            "BRUSTKORB",
            "TÓRAX PA",
            "胸部",
            "ГРУДНАЯ КЛЕТКА",
            "BORSTKAS",
            "TORAKS",
        ),
    ],
)
def test_chests_and_unknown_parts_pass(part: str) -> None:
    AcceptanceFilters().check_body_part(part)


@pytest.mark.parametrize(
    "part", ["HAND", "EXTREMITY", "ABDOMEN", "SKULL", "BRUSTWIRBELSÄULE", "TSPINE", "THORACIC SPINE"]
)
def test_other_body_parts_are_skipped(part: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_body_part(part)
    assert caught.value.reason is Reason.WRONG_BODY_PART


@pytest.mark.parametrize(
    "part",
    [
        *(
            "CHEST SPINE",
            "BRUSTBEIN",
            "THORAX-WIRBELSÄULE",
            "COLUMNA TORÁCICA",
            "COL TORACICA",
            "VÉRTEBRA TORÁCICA",
        ),
        *("COLUNA TORÁCICA", "COLONNA TORACICA", "RACHIDE TORACICO", "COLONNE THORAX", "RACHIS THORAX"),
        *("COLOANA TORACICĂ", "KRĘGOSŁUP KLATKI", "MELLKASI GERINC", "THORAXWERVEL", "PÁTEŘ HRUDNÍKU"),
        *("ГРУДНОЙ ОТДЕЛ ПОЗВОНОЧНИКА", "ГРУДНЫЕ ПОЗВОНКИ", "ГРУДНИЙ ВІДДІЛ ХРЕБТА", "ГРУДИНА"),
        *("胸椎", "胸腰椎", "胸部脊柱", "胸骨"),
    ],
)
def test_the_spine_of_the_chest_is_not_the_chest_in_any_language(part: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_body_part(part)
    assert caught.value.reason is Reason.WRONG_BODY_PART
    AcceptanceFilters(any_body_part=True).check_body_part(part)


@pytest.mark.parametrize("modality", ["CT", "SEG", "SR", "OT", "MG", "XA"])
def test_what_is_no_radiograph_is_skipped(modality: str) -> None:
    with pytest.raises(RadiographError) as caught:
        AcceptanceFilters().check_modality(modality)
    assert caught.value.reason is Reason.WRONG_MODALITY


def test_the_flags_open_modality_view_and_body_part() -> None:
    acceptance = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
    acceptance.check_modality("CT")
    acceptance.check_view("LL")
    acceptance.check_body_part("HAND")


def test_the_largest_image_is_the_limit_itself() -> None:
    AcceptanceFilters(max_pixels=400).check_size(20, 20)
    with pytest.raises(RadiographError, match="TOO_LARGE"):
        AcceptanceFilters(max_pixels=399).check_size(20, 20)


@pytest.mark.parametrize("shape", [(1, 1), (96, 1), (7, 96), (96, 7)])
def test_a_side_below_eight_is_too_small(shape: tuple[int, int]) -> None:
    with pytest.raises(RadiographError, match="TOO_SMALL"):
        AcceptanceFilters().check_size(*shape)


def test_quoted_text_is_short_and_sends_no_control_characters() -> None:
    assert show("LL") == "'LL'"
    assert show("\x1b[31m\n\u202ex") == r"'\x1b[31m\n\u202ex'"
    assert len(show("A" * 60000)) < 50


@pytest.mark.parametrize(
    ("meaning", "view"),
    [("postero-anterior", "PA"), ("antero-posterior", "AP"), ("left lateral", "LEFT LATERAL")],
)
def test_the_view_may_be_a_code(header: MakeHeader, meaning: str, view: str) -> None:
    assert read_view(header(ViewCodeSequence=meaning)) == view


def test_the_body_part_may_be_a_code(header: MakeHeader) -> None:
    assert read_body_part(header(AnatomicRegionSequence="Chest")) == "CHEST"
    assert read_body_part(header(BodyPartExamined="hand")) == "HAND"


def test_a_damaged_code_sequence_tells_nothing() -> None:
    class Damaged(Elements):
        def items(self, keyword: str) -> Any:
            raise OSError(keyword)

    assert read_view(Damaged(Dataset())) == ""


@pytest.mark.parametrize(
    "spelling", ["P-A", "P.A.", "p a", "POSTEROANTERIOR", "Postero-anterior", "POSTÉRO-ANTÉRIEURE"]
)
def test_a_view_has_one_name_however_it_is_spelled(header: MakeHeader, spelling: str) -> None:
    assert read_view(header(ViewPosition=spelling)) == "PA"


LATERAL_BY_OTHER_TAGS = [
    {"SeriesDescription": "LATERAL"},
    {"SeriesDescription": "Chest LAT"},
    {"ProtocolName": "Thorax seitlich"},
    {"ProtocolName": "TÓRAX PERFIL"},
    {"AcquisitionDeviceProcessingDescription": "Torace LL"},
    {"ViewCodeSequence": "left lateral"},
    {"ViewCodeSequence": "Profil gauche"},
    {"PatientOrientation": "A\\F"},
    {"PatientOrientation": "p\\f"},
    {"PatientOrientation": "H\\A"},
    {"PatientOrientation": "AL\\F"},
]


@pytest.mark.parametrize("tags", LATERAL_BY_OTHER_TAGS)
@pytest.mark.parametrize("view", ["", "PA"])
def test_a_lateral_view_is_skipped_whichever_element_names_it(
    header: MakeHeader, tags: dict[str, str], view: str
) -> None:
    elements = header(**tags, ViewPosition=view)
    directions = read_directions(tags.get("PatientOrientation", ""))
    with pytest.raises(RadiographError, match="WRONG_VIEW"):
        AcceptanceFilters().check_not_lateral(elements, directions)
    AcceptanceFilters(any_view=True).check_not_lateral(elements, directions)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"SeriesDescription": "CHEST PA AND LATERAL"},  # a series of both
        {"SeriesDescription": "view: PA", "ProtocolName": "Thorax p.a."},
        {"SeriesDescription": "BILAT. LUNG, LATE", "ProtocolName": "LATEX FREE"},
        {"ViewCodeSequence": "postero-anterior"},
        {"PatientOrientation": "L\\F"},
        {"PatientOrientation": "LA\\F"},
    ],
)
def test_a_frontal_view_is_no_lateral_one(header: MakeHeader, tags: dict[str, str]) -> None:
    directions = read_directions(tags.get("PatientOrientation", ""))
    AcceptanceFilters().check_not_lateral(header(**tags), directions)
