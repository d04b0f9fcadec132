"""Every code block of the documents runs, or says why it does not."""

import os
from collections import Counter
from pathlib import Path
from shutil import copytree
from typing import Any, Final

import pytest
from tests.integration.document_data import CONFIG, write_document_data
from tests.integration.documents import DOCUMENTS, Runner, blocks_of

import pneumoseg.pipeline
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.reading.readers import Readers

NOT_RUN: Final = Counter(
    {
        "installs the package": 1,
        "installs the package, and trains for minutes": 3,
        "needs a weights file; tests/unit/models does it with one that Keras wrote": 1,
        "needs an archive; the script is run against Orthanc by tests/integration/test_examples.py": 1,
        "needs an archive; tests/integration/test_dicomweb.py does it against Orthanc": 1,
        "needs the images of the challenge": 3,
        "needs the images of the challenge, and trains for hours": 2,
        "takes minutes, and needs radiographs": 1,
        "needs a cluster; tests/unit/pipeline/jobs/test_cluster.py runs one of two workers": 1,
        "runs until it is stopped": 2,
        "the script is run by tests/unit/pipeline/jobs/test_export.py, against the masks of the model": 1,
        "needs npm and a browser; tests/integration/test_browser_page.py compares the masks in Chromium": 1,
        "MONAI's own command; tests/integration/test_bundle.py runs it, and compares the masks": 1,
        "needs Docker": 2,
        "needs SLURM; tests/integration/test_batch_scripts.py runs the scripts without it": 3,
        "needs several GPUs": 1,
        "starts several processes; tests/integration/test_folds_and_processes.py does it with two": 1,
    }
)
"""Number of blocks that are not run, by the reason that the documents give."""
BLOCKS: Final = {path.name: list(blocks_of(path)) for path in DOCUMENTS}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, a manifest and a tiny trained model, under the names that the documents use."""
    folder = tmp_path_factory.mktemp("template")
    write_document_data(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "document", [name for name, blocks in BLOCKS.items() if any(block.not_run is None for block in blocks)]
)
def test_every_block_of_a_document_runs(
    document: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_tiny(*arguments: Any, **options: Any) -> Any:
        return train_model(*arguments, **{**options, "config": CONFIG, "report": False})

    enter = Readers.__enter__

    def read_in_this_process(readers: Readers[Any]) -> Readers[Any]:
        readers.count = 0  # each worker costs a second
        return enter(readers)

    monkeypatch.setattr(Readers, "__enter__", read_in_this_process)
    copytree(template, tmp_path / "box", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "box")
    monkeypatch.setattr(pneumoseg.pipeline, "train_model", train_tiny)
    runner = Runner()
    for block in BLOCKS[document]:
        if block.not_run is None:
            runner.run(block)


def test_blocks_that_are_not_run_are_known_and_say_why() -> None:
    found = Counter(block.not_run for blocks in BLOCKS.values() for block in blocks if block.not_run)
    assert found == NOT_RUN
