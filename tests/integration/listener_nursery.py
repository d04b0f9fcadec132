"""A process that has done all imports, and forks listeners: see `listener`. Imports take seconds, and tests start many.

It reads one line for each listener, ``CONFIG KIND PLACE INDEX``, and writes the process id and, once it listens,
``ready``. The listener kills itself before an access of this KIND to a path in its spool that contains PLACE: the first
one for INDEX 0, the second one for 1, ...
"""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from pneumoseg.pipeline.jobs.listen import listen_to_archive
from pneumoseg.pipeline.pacs.config import load_listen_config


def tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _be_listener(config: Path, kind: str, place: str, index: int) -> None:
    spool = str(load_listen_config(config).spool)
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        path = str(arguments[event == "os.rename"]) if event == kind else ""
        if path.startswith(spool) and place in path:
            if seen == index:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    def ready() -> None:
        sys.addaudithook(count)
        tell("ready")

    try:
        torch.set_num_threads(1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listen_to_archive(config, on_ready=ready)
        os._exit(0)
    except BaseException:  # noqa: BLE001  (a child must never continue as its parent)
        traceback.print_exc()
        tell("failed")
    finally:
        os._exit(1)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets ended children at once
    tell("begin")
    for line in sys.stdin:
        config, kind, place, index = line.rsplit(maxsplit=3)
        child = os.fork()
        if child == 0:
            _be_listener(Path(config), kind, place, int(index))
        tell(child)


if __name__ == "__main__":
    main()
