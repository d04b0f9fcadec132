"""Send instances to a listener in simultaneous associations: rate, losses and peak memory.

    python benchmarks/listener.py [--instances 2000] [--associations 10] [--size 256]

The listener runs in a process of its own and keeps the images; it does not analyse them meanwhile. Each instance is
looked for in its spool afterwards, byte for byte.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import yaml
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation  # type: ignore[attr-defined]
from tests.conftest import bright_pixel_network, write_model, write_radiograph
from tests.integration.archive import HOST, free_port

_MIB = 2**20
_PER_STUDY = 2


def main() -> None:
    """Run the listener, send, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--associations", type=int, default=10)
    parser.add_argument("--size", type=int, default=256, help="rows and columns of an image")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = _configure(folder, options.associations)
        pixels = np.random.default_rng(0).integers(0, 255, (options.size, options.size), dtype=np.uint8)
        image = write_radiograph(folder / "image.dcm", pixels)
        with subprocess.Popen(
            [sys.executable, "-m", "pneumoseg.pipeline", "listen", str(folder / "listen.yaml")],
            stdout=subprocess.PIPE,
            text=True,
        ) as listener:
            print(listener.stdout.readline().strip() if listener.stdout else "")
            before = _peak_mib(listener.pid)
            began = time.perf_counter()
            parts = [
                range(first, options.instances, options.associations) for first in range(options.associations)
            ]
            with ThreadPoolExecutor(options.associations) as pool:
                acknowledged = list(chain(*pool.map(lambda part: _send(image, part, port), parts)))
            seconds = time.perf_counter() - began
            peak = _peak_mib(listener.pid)
            listener.send_signal(signal.SIGTERM)
        found = {path.stem: path for path in (folder / "spool" / "studies").rglob("*.dcm")}
        content = dcmread(image).PixelData
        whole = sum(1 for uid in acknowledged if uid in found and dcmread(found[uid]).PixelData == content)
        size = image.stat().st_size
        print(
            f"{options.instances} instances of {size / 1024:.0f} KiB in {options.associations} associations: "
            f"{len(acknowledged)} acknowledged, {len(acknowledged) - whole} of them lost, "
            f"{len(acknowledged) / seconds:.0f} instances/s, {len(acknowledged) * size / seconds / _MIB:.1f} MiB/s; "
            f"peak memory {peak:.0f} MiB, {peak - before:.0f} MiB of it for receiving"
        )
        sys.exit(len(acknowledged) != options.instances or whole != options.instances)


def _configure(folder: Path, associations: int) -> int:
    model = write_model(folder / "model", bright_pixel_network())
    port = free_port()
    content = {
        "host": HOST,
        "port": port,
        "spool": "spool",
        "peers": [{"ae_title": "BENCHMARK", "address": HOST}],
        "destinations": {"none": {"protocol": "dicom", "ae_title": "NONE", "host": HOST, "port": 9}},
        "rules": [{"name": "all", "send_to": "none"}],
        "analysis": {"model": str(model), "device": "cpu"},
        "quiet_s": 3600,
        "monitor": None,
        "limits": {"associations": associations, "free_gb": 0},
    }
    (folder / "listen.yaml").write_text(yaml.safe_dump(content))
    return port


def _send(image: Path, numbers: Sequence[int], port: int) -> list[str]:
    """Send instances on one association; returns the UIDs of those that were acknowledged."""
    instance = dcmread(image)  # of this thread alone: it is changed for each number
    entity = AE(ae_title="BENCHMARK")
    entity.dimse_timeout = entity.acse_timeout = entity.network_timeout = 120
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, instance.file_meta.TransferSyntaxUID)
    association = entity.associate(HOST, port, ae_title="PNEUMOSEG")
    acknowledged = []
    for number in numbers:
        instance.SOPInstanceUID = f"1.2.826.0.1.{number + 1}"
        instance.StudyInstanceUID = f"1.2.826.0.2.{number // _PER_STUDY + 1}"
        if association.is_established and association.send_c_store(instance).get("Status") == 0:
            acknowledged.append(str(instance.SOPInstanceUID))
    association.release()
    return acknowledged


def _peak_mib(pid: int) -> float:
    """Peak resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text() if os.name == "posix" else ""
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
