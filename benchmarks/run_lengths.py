"""Time of encoding, decoding and scoring run lengths, relative to the organisers' loop and pycocotools.

python -m benchmarks.run_lengths [--quick] [--json FILE]
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from benchmarks.comparison import Comparison, Setting, relate, run, take_turns
from pneumoseg.pipeline.jobs.score import score_submission
from pneumoseg.transforms.labels.rle import decode_rle, encode_rle

SIDE = 1024
Mask = NDArray[np.uint8]


def measure(setting: Setting) -> list[Comparison]:
    """Compare encoding, decoding, a checkerboard, and scoring a submission.

    Args:
        setting: Number of rounds.
    """
    return [*_codec(setting), *_checkerboard(setting), _submission(setting)]


def make_blobs() -> Mask:
    """Make a mask of 1024 x 1024 pixels with three ellipses and 448 runs, as large as pneumothoraces are."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for row, column, height, width in ((300, 250, 130, 75), (520, 700, 90, 99), (800, 480, 60, 50)):
        mask |= ((rows - row) / height) ** 2 + ((columns - column) / (width + 0.5)) ** 2 < 1
    return mask


def encode_by_loop(mask: Mask) -> str:
    """Encode pixel by pixel, as the organisers' script does.

    Args:
        mask: Mask of shape ``(rows, columns)``.
    """
    numbers: list[int] = []
    rows, columns = mask.shape
    previous = position = start = stop = 0
    for column in range(columns):
        for row in range(rows):
            value = mask[row][column]
            if value != previous:
                if value:
                    start = position
                else:
                    numbers += [start - stop, position - start]
                    stop = position
                previous = value
            position += 1
    if previous:
        numbers += [start - stop, position - start]
    return " ".join(map(str, numbers)) or "-1"


def decode_by_loop(text: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Decode run by run, as the organisers' script does.

    Args:
        text: Run-length text of a mask that is not empty.
        shape: Size of the mask as ``(rows, columns)`` in pixels.
    """
    mask = np.zeros(shape[0] * shape[1])
    numbers = np.asarray([int(number) for number in text.split()])
    position = 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += gap
        mask[position : position + length] = 255
        position += length
    return mask.reshape(shape[1], shape[0]).T


def encode_by_coco(mask: Mask) -> Any:
    """Encode with pycocotools, which reads columns.

    Args:
        mask: Mask of shape ``(rows, columns)`` in C order, as networks make them.
    """
    return coco.encode(np.asfortranarray(mask))


def _codec(setting: Setting) -> list[Comparison]:
    mask = make_blobs()
    text, compressed = encode_rle(mask), encode_by_coco(mask)
    for decoded in (
        decode_rle(text, mask.shape),
        decode_by_loop(text, mask.shape) > 0,
        coco.decode(compressed),
    ):
        np.testing.assert_array_equal(decoded, mask)
    if encode_by_loop(mask) != text:
        raise AssertionError("the loop encodes differently")
    encoding = take_turns(
        {
            "ours": lambda: encode_rle(mask),
            "loop": lambda: encode_by_loop(mask),
            "coco": lambda: encode_by_coco(mask),
        },
        rounds=setting.rounds(9),
    )
    decoding = take_turns(
        {
            "ours": lambda: decode_rle(text, mask.shape),
            "loop": lambda: decode_by_loop(text, mask.shape),
            "coco": lambda: coco.decode(compressed),
        },
        rounds=setting.rounds(9),
    )
    return [
        relate("encode a mask, the organisers' loop", encoding["ours"], encoding["loop"], limit=400),
        relate("encode a mask, pycocotools", encoding["ours"], encoding["coco"], limit=7),
        relate("decode a mask, the organisers' loop", decoding["ours"], decoding["loop"], limit=10),
        relate("decode a mask, pycocotools", decoding["ours"], decoding["coco"], limit=10),
    ]


def _checkerboard(setting: Setting) -> list[Comparison]:
    """Compare the mask with the most runs: every second pixel."""
    board = (np.indices((SIDE, SIDE)).sum(axis=0) % 2).astype(np.uint8)
    text, compressed = encode_rle(board), encode_by_coco(board)
    turns = take_turns(
        {
            "encode": lambda: encode_rle(board),
            "coco encode": lambda: encode_by_coco(board),
            "decode": lambda: decode_rle(text, board.shape),
            "coco decode": lambda: coco.decode(compressed),
        },
        rounds=setting.rounds(9),
    )
    return [
        relate(f"{verb} a checkerboard, pycocotools", turns[verb], turns[f"coco {verb}"], limit=1 / 1.2)
        for verb in ("encode", "decode")
    ]


def _submission(setting: Setting) -> Comparison:
    """Compare scoring a submission on runs with decoding each pair of masks with pycocotools."""
    images = 20 if setting.quick else 300
    generator = np.random.default_rng(0)
    blobs = make_blobs()
    empty = np.zeros_like(blobs)
    labels = [
        np.roll(blobs, generator.integers(0, 100, 2), (0, 1)) if n % 4 == 0 else empty for n in range(images)
    ]
    preds = [np.roll(label, 9, 0) for label in labels]
    compressed = [
        (encode_by_coco(label), encode_by_coco(pred)) for label, pred in zip(labels, preds, strict=True)
    ]
    with TemporaryDirectory() as name:
        files = {}
        for kind, masks in (("truth", labels), ("submission", preds)):
            files[kind] = Path(name) / f"{kind}.csv"
            rows = [f"image{index},{encode_rle(mask)}" for index, mask in enumerate(masks)]
            files[kind].write_text("\n".join(["ImageId,EncodedPixels", *rows]) + "\n")
        turns = take_turns(
            {
                "runs": lambda: score_submission(files["submission"], files["truth"]),
                "masks": lambda: [_dice(coco.decode(label), coco.decode(pred)) for label, pred in compressed],
            },
            rounds=setting.rounds(5),
        )
    note = f"{images} images; ours reads both CSV files, the peer has its masks in memory"
    return relate(
        "score a submission, pycocotools and masks", turns["runs"], turns["masks"], limit=None, note=note
    )


def _dice(label: Mask, pred: Mask) -> float:
    total = int(label.sum()) + int(pred.sum())
    return 2 * int((label & pred).sum()) / total if total else 1.0


if __name__ == "__main__":
    run(measure, __doc__)
