"""Check the installation: versions, decoders, devices, runtimes, and libraries that should not be installed."""

import importlib
import importlib.util
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from packaging.version import InvalidVersion, Version

FLOORS: Final = {"monai": "1.6.1", "pydicom": "3.0.2", "pillow": "13.0.0", "torch": "2.11"}
"""Oldest releases without known faults; `pyproject.toml` requires the same."""
_SHOWN: Final = ("numpy", "pytorch-ignite", "imagecodecs", "pylibjpeg-openjpeg")


@dataclass(frozen=True)
class Library:
    """An installed library."""

    name: str
    found: str | None
    floor: str | None

    @property
    def is_ok(self) -> bool:
        """Whether the library is installed and not too old."""
        return self.found is not None and (self.floor is None or _release(self.found) >= _release(self.floor))


@dataclass(frozen=True)
class Decoder:
    """Libraries that decode a transfer syntax."""

    transfer_syntax: str
    syntax_name: str
    library: str
    available: bool


@dataclass(frozen=True)
class DoctorReport:
    """Libraries, decoders and devices for reading radiographs and running networks."""

    libraries: tuple[Library, ...]
    decoders: tuple[Decoder, ...]
    devices: tuple[str, ...]
    runtimes: tuple[str, ...]
    """Runtimes of the networks with their precisions on the CPU, or with what to install; then the cache folder."""
    advice: tuple[str, ...]
    """Remarks that are no failures."""

    @property
    def exit_code(self) -> int:
        """0, or 1 where a library is too old or a decoder is missing."""
        return int(
            not all(library.is_ok for library in self.libraries if library.floor) or bool(self.missing)
        )

    @property
    def missing(self) -> tuple[Decoder, ...]:
        """Decoders that are not installed."""
        return tuple(decoder for decoder in self.decoders if not decoder.available)


def doctor_report() -> DoctorReport:
    """Inspect the installation; nothing is changed, and missing libraries raise no error."""
    names = (*FLOORS, *_SHOWN)
    return DoctorReport(
        libraries=(
            Library("python", platform.python_version(), "3.11"),
            *(Library(name, _version(name), FLOORS.get(name)) for name in names),
        ),
        decoders=tuple(
            Decoder(syntax, name, library, _is_true(_AVAILABLE[library]))
            for library, syntaxes in _SYNTAXES.items()
            for syntax, name in syntaxes.items()
        ),
        devices=_devices(),
        runtimes=_runtimes(),
        advice=tuple(_advice()),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _release(text: str) -> tuple[int, ...]:
    """Give the release numbers of a version, without suffixes such as ``rc1`` or ``+cpu``; none if it is no version."""
    try:
        return Version(text).release
    except InvalidVersion:
        return ()


_SYNTAXES: Final = {
    "numpy": {
        "1.2.840.10008.1.2": "Implicit VR Little Endian",
        "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
        "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
        "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    },
    "imagecodecs (PackBits)": {"1.2.840.10008.1.2.5": "RLE Lossless"},
    "imagecodecs (libjpeg-turbo), pillow for colours": {"1.2.840.10008.1.2.4.50": "JPEG Baseline"},
    "imagecodecs (libjpeg-turbo)": {
        "1.2.840.10008.1.2.4.51": "JPEG Extended, 8 and 12 bits",
        "1.2.840.10008.1.2.4.57": "JPEG Lossless",
        "1.2.840.10008.1.2.4.70": "JPEG Lossless, Selection Value 1",
    },
    "imagecodecs (CharLS)": {
        "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
        "1.2.840.10008.1.2.4.81": "JPEG-LS Near-Lossless",
    },
    "pylibjpeg-openjpeg": {
        "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
        "1.2.840.10008.1.2.4.91": "JPEG 2000",
        "1.2.840.10008.1.2.4.201": "HTJ2K Lossless",
        "1.2.840.10008.1.2.4.202": "HTJ2K Lossless RPCL",
        "1.2.840.10008.1.2.4.203": "HTJ2K",
    },
}
_AVAILABLE: Final[dict[str, Callable[[], Any]]] = {
    "numpy": lambda: importlib.import_module("numpy"),
    "imagecodecs (PackBits)": lambda: importlib.import_module("imagecodecs").PACKBITS.available,
    "imagecodecs (libjpeg-turbo), pillow for colours": lambda: (
        importlib.import_module("imagecodecs").JPEG8.available
        and importlib.import_module("PIL.features").check("jpg")
    ),
    "imagecodecs (libjpeg-turbo)": lambda: importlib.import_module("imagecodecs").JPEG8.available,
    "imagecodecs (CharLS)": lambda: importlib.import_module("imagecodecs").JPEGLS.available,
    "pylibjpeg-openjpeg": lambda: importlib.import_module("openjpeg.utils").get_openjpeg_version() >= (2, 5),
}


def _is_true(question: Callable[[], Any]) -> bool:
    try:
        return bool(question())
    except (ImportError, AttributeError):
        return False


def _devices() -> tuple[str, ...]:
    """List the devices that the network can run on, each with the precision that would be chosen."""
    try:
        import torch  # noqa: PLC0415  (the rest is reported even if torch is broken)

        from pneumoseg.pipeline.core.devices import resolve_precision  # noqa: PLC0415
    except ImportError as error:
        return (f"torch cannot be imported ({error})",)
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    found = {torch.device("cpu"): f"{capability}, {threads} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        found[torch.device("cuda", index)] = f"{properties.name}, {memory}"
    return tuple(
        f"{device}: {what}, computes in {resolve_precision('auto', device).name}"
        for device, what in found.items()
    )


def _runtimes() -> tuple[str, ...]:
    """List the runtimes that networks can be computed with."""
    try:
        import torch  # noqa: PLC0415  (the rest is reported even if torch is broken)

        from pneumoseg.pipeline.core.devices import DTYPES, Precision  # noqa: PLC0415
        from pneumoseg.pipeline.runtimes.cache import cache_folder  # noqa: PLC0415
        from pneumoseg.pipeline.runtimes.forward import supports  # noqa: PLC0415
        from pneumoseg.pipeline.runtimes.libraries import RUNTIMES, TO_INSTALL, is_installed  # noqa: PLC0415
    except ImportError:
        return ()
    cpu = torch.device("cpu")
    lines = []
    for runtime in RUNTIMES:
        computed = [name for name, dtype in DTYPES.items() if supports(runtime, Precision(cpu, dtype))]
        missing = "" if is_installed(runtime) else f"; {TO_INSTALL[runtime]}"
        lines.append(f"runtime {runtime}: {', '.join(computed)}{missing}")
    return (*lines, f"cache of the runtimes: {cache_folder()}")


def _advice() -> list[str]:
    unused = {
        "gdcm": "GDCM is importable; it is not used here, for it ends the process at some damaged files",
        "libjpeg": "pylibjpeg-libjpeg is importable; it is not used here, for it is GPL and errs by a grey level",
    }
    advice = [line for module, line in unused.items() if importlib.util.find_spec(module)]
    if shutil.which("dot") is None:
        advice.append(
            "Graphviz is missing: `pneumoseg describe -o` cannot draw; install the system's graphviz package"
        )
    if importlib.util.find_spec("resource") is None:
        advice.append(
            "this system cannot limit the memory of a process: read files of unknown origin elsewhere"
        )
    return advice
