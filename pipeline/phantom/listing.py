"""List of the default phantom set: the content of each image, without pixels.

The file ``data_manifests/phantom.json`` makes every change of patients, findings or masks visible in a review.
"""

import json
from pathlib import Path
from typing import Any

from pneumoseg.pipeline.phantom.plan import (
    DEFAULT_COUNT,
    DEFAULT_SEED,
    DEFAULT_TEST_COUNT,
    PhantomCase,
    plan_cases,
)

SIZE = 1024


def describe_case(case: PhantomCase) -> dict[str, Any]:
    """Describe an image of the set.

    Args:
        case: Image of the set.

    Returns: Entry of the list; areas in pixels at 1024 x 1024, one for each row of the label.
    """
    scene = case.scene()
    return {
        "id": case.id,
        "group": case.group,
        "part": "test" if case.test else "train" if case.labelled else "unlabelled",
        "seed": list(case.seed),
        "patient_seed": list(case.patient_seed),
        "view": scene.pose.view,
        "sex": scene.patient.sex,
        "age": scene.patient.age,
        "encoding": case.encoding,
        "mask_areas_px": [int(mask.sum()) for mask in scene.masks(SIZE)],
    }


def write_listing(path: Path) -> None:
    """Write the list of the set that `write_phantoms` makes without arguments, one image per line.

    Args:
        path: Path of the file.
    """
    entries = ",\n    ".join(json.dumps(describe_case(case)) for case in plan_cases())
    header = {
        "format_version": 1,
        "name": "pneumoseg phantoms: synthetic chest radiographs, no patients",
        "licence": "Apache-2.0",
        "size": [SIZE, SIZE],
        "arguments": {"count": DEFAULT_COUNT, "test_count": DEFAULT_TEST_COUNT, "seed": DEFAULT_SEED},
    }
    text = json.dumps(header, indent=2).removesuffix("\n}")
    path.write_text(f'{text},\n  "images": [\n    {entries}\n  ]\n}}\n', encoding="utf-8")
