"""Weights of a model for the article's Keras network."""

from pathlib import Path

from pneumoseg.models import KerasWeightsError, save_keras_weights
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.runtimes.libraries import extra


def keras_files(folder: Path, members: int) -> list[Path]:
    """Name the file of each member of a model.

    Args:
        folder: Folder of the files.
        members: Number of members.
    """
    numbers = [""] if members == 1 else [f"-{number}" for number in range(1, members + 1)]
    return [folder / f"model{number}.weights.h5" for number in numbers]


def write_keras(model: Model, folder: Path) -> list[Path]:
    """Write the weights of each member for the article's Keras network.

    Args:
        model: Model.
        folder: Folder of the files.

    Returns: Paths of the files.
    Raises: UsageError: If the extra ``keras`` is not installed, or the network is another than the article's.
    """
    paths = keras_files(folder, len(model.networks))
    for path, network in zip(paths, model.networks, strict=True):
        try:
            with extra("keras"), written_atomically(path) as temporary:
                save_keras_weights(network, temporary)
        except KerasWeightsError as error:
            raise UsageError(f"-t keras: {error}") from None
    return paths
