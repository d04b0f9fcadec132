"""Commands that two processes run together, one after the other: see `test_folds_and_processes`.

    torchrun --nproc-per-node 2 two_processes.py JOB.json ...

Each job has words and the port where its processes meet: the store of ``torchrun`` serves one group only.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from pneumoseg.pipeline.cli import app as cli
from pneumoseg.pipeline.jobs import train
from pneumoseg.pipeline.training.fitting import fit as usual


def main(path: Path) -> None:
    """Run the words of a file, and write the weights and scores that this process ends with beside it."""

    def fit(run: Any, history: Any, *words: Any, **options: Any) -> Any:
        best = usual(run, history, *words, **options)
        networks = run.network, run.evaluated
        weights = [float(value.double().sum()) for each in networks for value in each.state_dict().values()]
        told = [weights, run.validator.state.metrics["challenge"]]
        path.with_name(f"{path.stem}-rank{idist.get_rank()}.json").write_text(json.dumps(told))
        return best

    setattr(train, "fit", fit)  # noqa: B010  (what the job calls, whatever it exports)
    job = json.loads(path.read_text())
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": str(job["port"])}
    cli.app(job["words"], standalone_mode=False)


for each in sys.argv[1:]:
    main(Path(each))
