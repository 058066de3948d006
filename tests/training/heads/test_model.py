"""The model: any causal language model, unchanged, with adapter and heads on its output."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.heads.conftest import KINDS, tiny_model
from tracetune.errors import ConfigurationError
from tracetune.training.heads import frozen
from tracetune.training.heads.adapter import TrajectoryAdapter, masked_mean
from tracetune.training.heads.model import CognitiveTwin, TwinOutput
from tracetune.training.heads.options import ArchitectureOptions
from tracetune.training.heads.parts import PlanningHead

SMALL = ArchitectureOptions(style_width=16, pattern_width=16, adapter_width=8)
FIELDS = (
    "style_signature",
    "pattern_logits",
    "plan_steps",
    "stop_logits",
    "pooled",
    "base_pooled",
    "gate",
)
PLACE: dict[str, Any] = {
    "trajectory_coords": torch.tensor([[0.5, 0.33, 0.8, 0.5, 0.6]]),
    "phase_id": torch.tensor([2]),
    "homogeneity": torch.tensor([[0.8]]),
}


def twin_of(model: Any) -> CognitiveTwin:
    """Heads far from their start, so that everything they are given makes a difference."""
    torch.manual_seed(1)
    twin = CognitiveTwin(model, architecture=SMALL)
    with torch.no_grad():
        for parameter in twin.heads.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return twin.eval()


@pytest.fixture(scope="module")
def twins(models: dict[str, Any]) -> dict[str, CognitiveTwin]:
    return {kind: twin_of(model) for kind, model in models.items()}


# Document 001, "Supported Base Models": class, hidden size.
TABLE = [
    ("Llama 3.2 3B", "llama", 3072),
    ("Llama 3.2 1B", "llama", 2048),
    ("Llama 3.1 8B", "llama", 4096),
    ("Gemma 3 4B", "gemma3", 2560),
    ("Qwen 3 4B", "qwen3", 2560),
]


@pytest.mark.parametrize(("name", "kind", "size"), TABLE)
def test_the_hidden_sizes_of_document_001(name: str, kind: str, size: int) -> None:
    sizes = {"num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 16}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    model = tiny_model(kind, hidden_size=size, **sizes, **heads)
    with torch.device("meta"):  # shapes alone; the heads of 4096 have 90 million weights
        twin = CognitiveTwin(model)
        hidden = twin.hidden_states(torch.ones(1, 3, dtype=torch.long, device="cpu")).to("meta")
        output = twin.heads(hidden, torch.ones(1, 3, dtype=torch.bool))
    assert twin.hidden_size == size, name
    assert output.style_signature.shape == (1, 256)
    assert output.pattern_logits.shape == (1, 12)
    assert output.plan_steps.shape == (1, 8, size)
    assert output.stop_logits.shape == (1, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_usage_example_of_document_001(twins: dict[str, CognitiveTwin], kind: str) -> None:
    twin = twins[kind]
    ids = torch.tensor([[5, 9, 7, 3]])
    output = twin(input_ids=ids, attention_mask=torch.ones_like(ids), **PLACE)
    assert isinstance(output, TwinOutput)
    assert output.style_signature.shape == (1, 256)
    assert output.style_signature.norm(dim=-1).allclose(torch.ones(1))
    assert output.pattern_logits.shape == (1, 12)
    assert output.plan_steps.shape == (1, 8, 32)
    style = twin.extract_style(input_ids=ids)
    assert style.shape == (1, 256)
    assert not style.allclose(output.style_signature)  # the trajectory says something


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_computes_what_it_did(models: dict[str, Any], kind: str) -> None:
    model = models[kind]
    ids = torch.tensor([[5, 9, 7, 3], [8, 8, 4, 6]])
    with torch.no_grad():
        before = model(input_ids=ids, output_hidden_states=True)
    twin = twin_of(model).train()
    assert not any(parameter.requires_grad for parameter in twin.base.parameters())
    assert not twin.base.training
    with torch.no_grad():
        assert twin.base(input_ids=ids).logits.equal(before.logits)
    assert twin.hidden_states(ids).allclose(before.hidden_states[-1], atol=1e-6)


@settings(max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_changes_nothing(
    twins: dict[str, CognitiveTwin], kind: str, data: st.DataObject
) -> None:
    twin = twins[kind]
    rows = data.draw(
        st.lists(st.lists(st.integers(3, 63), min_size=1, max_size=14), min_size=1, max_size=3)
    )
    sides = [data.draw(st.integers(0, 5)) for _ in rows]
    width = max(map(len, rows)) + max(sides)
    ids = torch.full((len(rows), width), data.draw(st.sampled_from([0, 7])))
    mask = torch.zeros_like(ids)
    for number, (row, left) in enumerate(zip(rows, sides, strict=True)):
        ids[number, left : left + len(row)] = torch.tensor(row)
        mask[number, left : left + len(row)] = 1
    place = {name: value.expand(len(rows), *value.shape[1:]) for name, value in PLACE.items()}
    with torch.no_grad():
        together = twin(ids, mask, **place)
        for number, row in enumerate(rows):
            alone = twin(torch.tensor([row]), **PLACE)
            for field in FIELDS:
                one, other = getattr(together, field)[number], getattr(alone, field)[0]
                assert torch.allclose(one, other, atol=2e-4, rtol=1e-3), field


def test_only_the_turn_itself_is_pooled(twins: dict[str, CognitiveTwin]) -> None:
    twin = twins["llama"]
    ids = torch.tensor([[5, 9, 7, 3, 4]])
    turn = torch.tensor([[0, 0, 0, 1, 1]])
    with torch.no_grad():
        output = twin(ids, **PLACE, pool_mask=turn)
        hidden = twin.hidden_states(ids)
    assert output.base_pooled.allclose(hidden[:, 3:].mean(1), atol=1e-6)
    assert not output.base_pooled.allclose(hidden.mean(1), atol=1e-3)


def test_the_adapter_follows_its_formulas() -> None:
    torch.manual_seed(0)
    size, width = 6, 4
    adapter = TrajectoryAdapter(size, width)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn_like(parameter))
    adapter.standard.fit(torch.randn(9, size))
    hidden = torch.randn(2, 3, size)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    c, p, h = torch.rand(2, 5), torch.tensor([1, 5]), torch.tensor([0.2, 0.9])
    found, gate = adapter(hidden, mask, c, p, h)

    weights = dict(adapter.named_parameters())

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    e = gelu(norm("coordinates.3", linear("coordinates.2", gelu(linear("coordinates.0", c)))))
    ph = weights["phases.weight"][p]
    means = torch.stack([hidden[0, :2].mean(0), hidden[1].mean(0)])
    means = (means - adapter.standard.mean) / adapter.standard.deviation
    g = torch.sigmoid(linear("gate.2", gelu(linear("gate.0", torch.cat([means, e, ph], 1)))))
    a = linear("outer", gelu(linear("inner", torch.cat([e, ph], 1))))
    s = 0.5 + 0.5 * torch.sigmoid(weights["alpha"] * h + weights["beta"])
    expected = norm("norm", hidden + (g * s[:, None] * a)[:, None, :])
    assert gate.allclose(g, atol=1e-5)
    assert found.allclose(expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_starts_near_the_identity(kind: str) -> None:
    torch.manual_seed(2)
    # A layer norm takes away the mean over the numbers, about 1/sqrt(size) of states of no meaning.
    model = tiny_model(kind, hidden_size=256)
    with torch.no_grad():  # a trained model's last norm has weights of its own
        norms = [p for n, p in model.named_parameters() if n.endswith("norm.weight")]
        norms[-1].copy_(1 + 0.5 * torch.rand_like(norms[-1]))
    twin = CognitiveTwin(model, architecture=SMALL)
    ids = torch.randint(3, 64, (24, 12))
    hidden = twin.hidden_states(ids)
    twin.heads.calibrate(list(hidden[:16]))
    rows, mask = hidden[16:], torch.ones(8, 12, dtype=torch.bool)  # not those it was fitted to
    place = (torch.rand(8, 5), torch.arange(8) % 6, torch.rand(8))
    with torch.no_grad():
        adapted, gate = twin.heads.adapter(rows, mask, *place)
        closed, none = twin.heads.adapter(rows, mask, None, None, None)
    size = rows.norm()
    assert (closed - rows).norm() / size < 0.08
    assert (adapted - rows).norm() / size < 0.1
    assert gate.mean() == pytest.approx(1 / (1 + math.exp(2)), abs=0.02)  # sigmoid(-2)
    assert not none.any()


@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
def test_the_first_residual_has_the_size_of_the_states(size: float) -> None:
    torch.manual_seed(2)
    model = tiny_model("llama", hidden_size=256)
    with torch.no_grad():
        model.model.norm.weight.fill_(size)
    twin = CognitiveTwin(model)
    hidden, mask = twin.hidden_states(torch.randint(3, 64, (24, 12))), torch.ones(24, 12).bool()
    twin.heads.calibrate(list(hidden))
    place = (torch.rand(24, 5), torch.arange(24) % 6, torch.rand(24))
    with torch.no_grad():
        adapted, _ = twin.heads.adapter(hidden, mask, *place)
        closed, _ = twin.heads.adapter(hidden, mask, None, None, None)
    assert (adapted - hidden).norm() / hidden.norm() < 0.2
    assert 0.005 < (adapted - closed).norm() / hidden.norm() < 0.2


def test_before_calibration_the_adapter_only_keeps_the_direction() -> None:
    """Why :meth:`calibrate` is there: a fresh layer norm gives every number the same size."""
    torch.manual_seed(2)
    adapter = TrajectoryAdapter(64)
    hidden = torch.randn(4, 5, 64) * torch.linspace(0.5, 5, 64)
    change = (adapter(hidden, torch.ones(4, 5).bool(), None, None, None)[0] - hidden).norm()
    assert change / hidden.norm() > 0.5


def test_calibration_lets_plans_start_at_the_mean() -> None:
    torch.manual_seed(2)
    twin = CognitiveTwin(None, hidden_size=16, architecture=SMALL)
    turns = [torch.randn(3, 16) + 4 for _ in range(20)]
    twin.heads.calibrate(turns)
    output = twin.heads(torch.stack(turns), torch.ones(20, 3).bool())
    mean = torch.stack([turn.mean(0) for turn in turns]).mean(0)
    assert output.plan_steps.allclose(mean.expand(20, 8, 16), atol=1e-5)


def test_plans_look_at_the_tokens_by_multi_head_attention() -> None:
    torch.manual_seed(3)
    head = PlanningHead(32, steps=5)
    for layer in (head.ask, head.values):
        torch.nn.init.normal_(layer.bias)
    plain = torch.nn.MultiheadAttention(32, head.heads, batch_first=True)
    with torch.no_grad():
        parts = (head.ask, head.keys, head.values)
        plain.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        bias = torch.randn(32)  # of the keys: it changes nothing
        plain.in_proj_bias.copy_(torch.cat([head.ask.bias, bias, head.values.bias]))
        plain.out_proj.load_state_dict(head.join.state_dict())
    tokens = torch.randn(3, 7, 32)
    mask = torch.arange(7) < torch.tensor([[7], [1], [4]])
    expected, _ = plain(head.queries.expand(3, 5, 32), tokens, tokens, key_padding_mask=~mask)
    assert head.join(head.attend(tokens, mask)).allclose(expected, atol=1e-5)


def test_numbers_that_never_change_do_no_harm() -> None:
    twin = CognitiveTwin(None, hidden_size=16, architecture=SMALL)
    turns = [torch.ones(3, 16), torch.ones(2, 16)]
    twin.heads.calibrate(turns)
    output = twin.heads(torch.ones(1, 3, 16), torch.ones(1, 3).bool())
    assert all(getattr(output, field).isfinite().all() for field in FIELDS)


def test_masked_mean_leaves_out_what_is_no_number() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    assert masked_mean(hidden, torch.tensor([[True, True, False]])).item() == 2.0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"trajectory_coords": torch.rand(1, 4)}, r"trajectory_coords: found shape \(1, 4\)"),
    ({"trajectory_coords": torch.tensor([[0.5, 0.33, 1.8, 0.5, 0.6]])}, "outside 0 to 1"),
    ({"trajectory_coords": torch.full((1, 5), float("nan"))}, "outside 0 to 1"),
    ({"phase_id": None}, "phase_id"),
    ({"phase_id": torch.tensor([6])}, "an unknown phase"),
    ({"phase_id": torch.tensor([1, 2])}, "another number of phases"),
    ({"homogeneity": torch.tensor([[0.7]])}, r"another number than trajectory_coords\[:, 2\]"),
    ({"homogeneity": torch.rand(1, 2)}, "homogeneity"),
    ({"trajectory_coords": None}, "trajectory_coords: found nothing"),
    ({"attention_mask": torch.ones(1, 3)}, "attention_mask: found shape"),
    ({"attention_mask": torch.zeros(1, 4)}, "a row without a token"),
    ({"pool_mask": torch.zeros(1, 4)}, "a row without a token"),
    ({"pool_mask": torch.ones(1, 2)}, "pool_mask: found shape"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_arguments_are_named(
    twins: dict[str, CognitiveTwin], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        twins["llama"](torch.tensor([[5, 9, 7, 3]]), **{**PLACE, **change})


def test_a_padded_batch_without_its_mask_is_refused(twins: dict[str, CognitiveTwin]) -> None:
    with pytest.raises(ConfigurationError, match="the batch holds padding"):
        twins["llama"].extract_style(torch.tensor([[5, 9, 7], [4, 0, 0]]))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing. is deprecated")
def test_a_base_with_an_adapter_on_it_is_refused() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model("llama"), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ConfigurationError, match="not merged"):
        CognitiveTwin(model)


def test_without_its_base_the_model_says_so(tmp_path: Path) -> None:
    twin = CognitiveTwin(None, hidden_size=16)
    with pytest.raises(ConfigurationError, match="without its base"):
        twin(torch.tensor([[5, 9]]))
    with pytest.raises(ConfigurationError, match="the hidden size is not known"):
        CognitiveTwin(None)


def test_a_configuration_without_hidden_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="states no hidden size"):
        frozen.hidden_size_of(object())
