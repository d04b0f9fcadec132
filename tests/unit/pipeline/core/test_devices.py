import os
from contextlib import nullcontext

import ignite.distributed as idist
import pytest
import torch

from pneumoseg.pipeline.core.config import PrecisionName
from pneumoseg.pipeline.core.devices import (
    Precision,
    broadcast_buffers,
    computes_in_bf16,
    gather,
    own_device,
    precision_of_model,
    process_group,
    resolve_device,
    resolve_precision,
    synchronise_norm,
    training_algorithms,
)
from pneumoseg.pipeline.core.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Two GPUs that do not exist; gives the list of those that become current."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.usefixtures("no_cuda")
def test_auto_is_the_processor_where_there_is_no_gpu() -> None:
    assert resolve_device("auto") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert resolve_device().type == "cuda"


def test_a_gpu_that_is_chosen_by_number_becomes_the_current_one(two_gpus: list[torch.device]) -> None:
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert two_gpus == [torch.device("cuda:1")]


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize("rank", [0, 1])
def test_each_of_several_processes_has_a_gpu_of_its_own(
    two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch, name: str, rank: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert own_device(name) == torch.device(f"cuda:{rank}")
    assert two_gpus == [torch.device(f"cuda:{rank}")]


@pytest.mark.usefixtures("two_gpus")
def test_several_processes_cannot_share_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"--device cuda:1: 2 processes .* use -d cuda or -d auto"):
        own_device("cuda:1")


@pytest.mark.usefixtures("two_gpus")
def test_more_processes_than_gpus_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="2 CUDA devices are visible"):
        own_device("auto")


@pytest.mark.usefixtures("no_cuda")
def test_several_processes_share_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert own_device("auto") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_there_is_not_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_without_a_gpu_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="0 CUDA devices"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1x", "", "CPU", "mps", "cuda:-1"])
def test_another_name_is_a_usage_error_that_says_what_would_fit(name: str) -> None:
    with pytest.raises(UsageError, match="auto, cpu or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("flags", "able"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False), ({}, False)],
)
def test_a_processor_computes_in_bf16_when_it_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], able: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert computes_in_bf16(CPU) is able
    assert resolve_precision("auto", CPU).dtype == (torch.bfloat16 if able else torch.float32)


@pytest.mark.parametrize(
    ("capability", "bf16", "training", "expected"),
    [
        ((8, 0), True, True, torch.bfloat16),  # A100
        ((8, 0), True, False, torch.bfloat16),
        ((7, 5), False, True, torch.float16),  # T4
        ((7, 5), False, False, torch.float32),
        ((7, 0), False, True, torch.float16),  # V100
        ((6, 1), False, True, torch.float32),  # GTX 1080: without tensor cores fp16 is slower than float32
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_auto_on_a_gpu_is_the_fastest_format_that_keeps_the_range(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    bf16: bool,
    training: bool,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr("pneumoseg.pipeline.core.devices.computes_in_bf16", lambda _: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    precision = resolve_precision("auto", torch.device("cuda"), training=training)
    assert precision.dtype == expected


def test_auto_on_a_processor_is_never_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert resolve_precision("auto", CPU, training=True).dtype == torch.float32


def test_fp16_on_a_processor_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="needs CUDA"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize("name", ["bf16", "float32"])
def test_a_precision_keeps_its_name(name: PrecisionName) -> None:
    assert resolve_precision(name, CPU).name == name


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_the_network_computes_in_the_precision(precision: PrecisionName, dtype: torch.dtype) -> None:
    layer, image = torch.nn.Conv2d(1, 1, 1), torch.ones(1, 1, 4, 4)
    with resolve_precision(precision, CPU).autocast():
        assert layer(image).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "scales"), [(torch.float16, True), (torch.bfloat16, False), (torch.float32, False)]
)
def test_only_fp16_needs_its_gradients_scaled(dtype: torch.dtype, scales: bool) -> None:
    assert Precision(CPU, dtype).make_scaler().is_enabled() is scales


@pytest.mark.parametrize("before", [(False, True), (True, False)])
@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_algorithms_end_with_the_run(
    monkeypatch: pytest.MonkeyPatch, before: tuple[bool, bool], wanted: bool
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")

    def now() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    at_first = now()
    try:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        with pytest.raises(RuntimeError), training_algorithms(deterministic=wanted):  # noqa: PT012
            # else cuDNN looks for the fastest
            assert now() == ((True, False) if wanted else (before[0], True))
            raise RuntimeError
        assert now() == before
    finally:
        torch.use_deterministic_algorithms(at_first[0])
        torch.backends.cudnn.benchmark = at_first[1]


def test_where_one_is_asked_for_an_algorithm_that_differs_is_refused() -> None:
    def unsure() -> torch.Tensor:  # which of two values for one place stays is left open
        return torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))

    unsure()
    with training_algorithms(deterministic=True), pytest.raises(RuntimeError, match="deterministic"):
        unsure()


def test_what_cublas_is_told_by_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with training_algorithms(deterministic=True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("thing", [3, "text", [1, 2], {"a": None}])
def test_alone_there_is_one_thing_to_gather(thing: object) -> None:
    assert gather(thing) == [thing]


@pytest.mark.usefixtures("no_cuda")
def test_alone_there_is_no_group_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group("auto") as device:
        assert device == CPU
        assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("no_cuda")
def test_a_device_that_there_is_not_is_an_error_before_a_group_is_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for processes in ("1", "2"):
        monkeypatch.setenv("WORLD_SIZE", processes)
        with pytest.raises(UsageError, match="0 CUDA devices"), process_group("cuda"):
            raise AssertionError


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_fails_does_not_wait_for_a_group_of_gpus(
    device: str, backend: str, *, fails: bool, two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    waits = backend == "gloo" or not fails
    calls: list[str] = []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda name, timeout: calls.append(f"{name} {timeout.days}")
    )
    monkeypatch.setattr(idist, "sync", lambda: calls.append("sync"))
    monkeypatch.setattr(idist, "finalize", lambda: calls.append("finalize"))
    with pytest.raises(UsageError) if fails else nullcontext(), process_group(device):
        if fails:
            raise UsageError("")
    assert calls == [f"{backend} 7", "sync", *(["finalize"] if waits else [])]
    assert two_gpus == ([torch.device("cuda:1")] if device == "cuda" else [])  # on a processor none is taken


def norm_network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))


@pytest.mark.parametrize(
    ("processes", "device", "synchronised"), [(2, "cuda:0", True), (1, "cuda:0", False), (2, "cpu", False)]
)
def test_batch_statistics_are_shared_between_gpus_only(
    monkeypatch: pytest.MonkeyPatch, processes: int, device: str, synchronised: bool
) -> None:
    monkeypatch.setattr("pneumoseg.pipeline.core.devices.world_size", lambda: processes)
    network = norm_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network = synchronise_norm(network, torch.device(device))
    assert any(isinstance(part, torch.nn.SyncBatchNorm) for part in network.modules()) is synchronised
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_buffers_are_sent_in_the_order_in_which_the_networks_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("pneumoseg.pipeline.core.devices.world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda buffer, src: sent.append(buffer.data_ptr()))
    networks = norm_network(), norm_network()
    broadcast_buffers(*networks)
    assert sent == [buffer.data_ptr() for network in networks for buffer in network.buffers()]


def test_alone_no_buffer_is_sent() -> None:
    broadcast_buffers(norm_network())  # there is no process group that could send it


def test_a_model_validated_in_fp16_is_used_in_float32_on_a_processor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert precision_of_model("fp16", CPU).name == "float32"
    (line,) = capsys.readouterr().err.splitlines()
    assert "validated in fp16, which cpu does not support; it runs in float32" in line


@pytest.mark.parametrize(
    ("requested", "name"),
    [("float32", "float32"), ("bf16", "bf16"), ("bfloat16", "bf16"), ("int8", "int8")],
)
def test_a_requested_precision_replaces_that_of_the_validation(requested: str, name: str) -> None:
    assert precision_of_model("float32", CPU, requested=requested).name == name


def test_a_quantised_graph_leaves_torch_in_float32() -> None:
    with precision_of_model("float32", CPU, requested="int8").autocast():
        assert torch.nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == torch.float32
