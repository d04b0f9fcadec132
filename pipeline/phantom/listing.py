"""The list of the default phantom set: what each image shows, without a pixel of it.

It lies in ``data_manifests/phantom.json``, so that a change of the generator that moves patients, findings
or masks is seen in a review.
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
    """One entry of the list; areas in pixels at 1024 x 1024, one for each row of the label."""
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
    """Write the list of the set that `write_phantoms` makes without arguments; one image a line."""
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
