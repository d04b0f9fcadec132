import pytest
import torch

from pneumoseg.models.attention_gate import AttentionGate


@pytest.fixture
def gate() -> AttentionGate:
    """One channel everywhere: coefficient = sigmoid(3 relu(2 skip + gate - 1) - 6)."""
    gate = AttentionGate(skip_channels=1, gate_channels=1, hidden_channels=1)
    for convolution, weight, bias in (
        (gate.from_skip, 2.0, -1.0),
        (gate.from_gate, 1.0, 0.0),
        (gate.to_weight, 3.0, -6.0),
    ):
        convolution.load_state_dict(
            {"weight": torch.full((1, 1, 1, 1), weight), "bias": torch.tensor([bias])}
        )
    return gate


@pytest.mark.parametrize(
    ("skip", "signal", "coefficient"),
    [
        (1.0, 1.0, 0.5),  # relu(2) = 2, 6 - 6 = 0
        (0.0, 0.0, 0.0024726),  # relu(-1) = 0, sigmoid(-6)
        (1.0, 3.0, 0.9975274),  # relu(4) = 4, sigmoid(6)
    ],
)
def test_a_coefficient_follows_the_formula(
    gate: AttentionGate, skip: float, signal: float, coefficient: float
) -> None:
    gated, coefficients = gate(torch.full((1, 1, 1, 1), skip), torch.full((1, 1, 1, 1), signal))
    assert coefficients.item() == pytest.approx(coefficient, abs=1e-6)
    assert gated.item() == pytest.approx(skip * coefficient, abs=1e-6)


def test_one_coefficient_scales_all_channels_of_a_pixel() -> None:
    gate = AttentionGate(skip_channels=6, gate_channels=12, hidden_channels=3)
    skip = torch.rand(2, 6, 4, 5) + 1
    gated, coefficients = gate(skip, torch.rand(2, 12, 4, 5))
    assert coefficients.shape == (2, 1, 4, 5)
    torch.testing.assert_close(gated / skip, coefficients.expand(2, 6, 4, 5))


def test_pixels_are_weighed_one_by_one(gate: AttentionGate) -> None:
    skip, signal = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    changed = signal.clone()
    changed[0, 0, 1, 2] += 5
    difference = gate(skip, changed)[1] != gate(skip, signal)[1]
    assert difference.nonzero().tolist() == [[0, 0, 1, 2]]
