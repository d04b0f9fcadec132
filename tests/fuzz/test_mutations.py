import importlib
import random
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import RadiographError, Reason

COUNT, MOST_JPEG_LS = 5_000, 100  # a damaged JPEG-LS stream may take seconds, and then ends its worker
SEED = 2019


@pytest.fixture
def mutations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of mutations, where workers find it too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("mutations")


def test_each_seed_is_read_without_a_word(mutations: ModuleType, tmp_path: Path) -> None:
    for name, data in mutations.seeds().items():
        path = tmp_path / "seed"
        path.write_bytes(data)
        assert mutations.read_all(path, acceptance=AcceptanceFilters()) == (True, True), name


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def damaged_files(mutations: ModuleType, folder: Path) -> list[Path]:
    """Write the files, the same ones in every run."""
    source = random.Random(SEED)
    seeds = mutations.seeds()
    names = list(seeds)
    paths: list[Path] = []
    jpeg_ls = 0
    while len(paths) < COUNT:
        name, other = source.choices(names, k=2)
        jpeg_ls += name.startswith("JPEG-LS")
        if name.startswith("JPEG-LS") and jpeg_ls > MOST_JPEG_LS:
            continue
        path = folder / f"{len(paths):04}"
        path.write_bytes(mutations.mutate(seeds[name], seeds[other], source))
        paths.append(path)
    return paths


def test_no_damage_gets_anything_but_an_image_or_a_reason(mutations: ModuleType, tmp_path: Path) -> None:
    paths = damaged_files(mutations, tmp_path)
    acceptance = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
    at_start = resident_bytes()
    with Readers(mutations.read_all, acceptance=acceptance, workers=2, seconds=1) as readers:
        results = list(readers.read(paths))
    grown = resident_bytes() - at_start

    errors = [result for result in results if isinstance(result, RadiographError)]
    reasons = Counter(error.reason for error in errors)
    assert len(results) == COUNT
    assert {result for result in results if not isinstance(result, RadiographError)} == {(True, True)}
    assert not [error for error in errors if "unexpected" in error.detail], "an error that nobody thought of"
    assert not [error for error in errors if not error.detail.isprintable()]
    assert COUNT // 10 < len(errors) < COUNT - COUNT // 10  # neither all harmless nor all beyond reading
    assert reasons[Reason.TIMED_OUT] + reasons[Reason.DECODER_DIED] <= MOST_JPEG_LS
    assert len(reasons) >= 10
    assert grown < 50 * 2**20
