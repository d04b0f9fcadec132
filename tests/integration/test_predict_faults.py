"""What happens to a prediction that is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Collection

KILLS = 27


def test_results_after_any_number_of_kills_are_those_of_an_uninterrupted_run(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    nursery = Path(__file__).with_name("predict_nursery.py")
    done = subprocess.run(
        [sys.executable, str(nursery), str(model_folder), str(collection.images), str(tmp_path), str(KILLS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    told = json.loads(done.stdout)
    assert told["failures"] == []
    assert told["status"] == 0
    assert told["killed"] == KILLS
    assert told["rounds"] > 0
    assert told["states"] > 5  # it was killed early and late
    assert told["files"] == 12 * 9 + 2  # eight kinds and a receipt for each image, and two tables
