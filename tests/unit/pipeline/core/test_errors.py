import errno
import os

import numpy as np
import pytest
import torch

from pneumoseg.pipeline.core.errors import JobError, UsageError, explain, is_out_of_memory


def test_a_name_in_an_error_cannot_break_its_line() -> None:
    assert str(JobError("a\nerror: b\x1b[31m")) == "a\\nerror: b\\x1b[31m"


def test_details_have_lines_of_their_own() -> None:
    assert str(JobError("two faults:", details=["a", "b\nc"])) == "two faults:\n  a\n  b\\nc"


def test_exit_codes_are_those_that_were_promised() -> None:
    assert (JobError("").exit_code, UsageError("").exit_code) == (1, 2)


def allocate(what: str) -> None:
    """Ask for more memory than there can be."""
    if what == "numpy":
        np.empty(2**60, dtype=np.uint8)
    else:
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("what", ["numpy", "torch"])
def test_too_little_memory_of_the_computer_is_no_bug(what: str) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate(what)
    assert is_out_of_memory(caught.value)
    text = explain(caught.value)
    assert text.startswith("too little memory (")
    assert "bug" not in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "text",  # of torch's own sources
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Unable to find a valid cuDNN algorithm to run convolution: FIND was unable to find an engine to execute",
    ],
)
def test_libraries_of_a_gpu_say_otherwise_that_its_memory_is_full(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


def test_other_errors_of_torch_do_not_mean_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(caught.value)
    assert explain(caught.value).endswith("this is a bug in pneumoseg, -v prints the traceback")


def test_an_error_of_the_system_names_its_file() -> None:
    assert (
        explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.csv")) == "a.csv: No space left on device"
    )


def test_a_missing_package_is_named_and_no_bug() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        __import__("a_package_that_does_not_exist")
    assert explain(caught.value).startswith("the package a_package_that_does_not_exist is not installed")
