"""A folder that transformers wrote is read as the model that it holds, or refused with every reason."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_huggingface_layouts import BY_NAME, GPT2, QWEN3, difference, exported, models, trained

from nanotx.errors import ConfigError, RunError
from nanotx.hub.huggingface.importing import import_model
from nanotx.hub.huggingface.proof import greedy

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", BY_NAME)
@given(data=st.data())
def test_saved_model_is_the_model(name, data, tmp_path_factory):
    model = trained(data.draw(models(name)), data.draw(st.integers(2, 40)), data.draw(st.integers(0, 1000)))
    theirs = exported(model, BY_NAME[name])
    folder = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(folder, max_shard_size=data.draw(st.sampled_from(["1GB", "2KB"])))
    imported = import_model(folder, model.vocab_size)
    assert imported.class_name == name
    difference(model, BY_NAME[name], saved=theirs, read=imported.model).check()
    again = import_model(folder_of(exported(imported.model, BY_NAME[name]), folder / "again"), model.vocab_size)
    assert again.model.config == imported.model.config
    weights = again.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in imported.model.state_dict().items())


def folder_of(theirs, folder):
    """A folder that a model of transformers was saved to."""
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    exported(trained(GPT2, 11, 3), BY_NAME["GPT2LMHeadModel"]).save_pretrained(tmp_path)
    return tmp_path


def changed(folder, **values):
    """Change keys of the config; None removes one."""
    file = folder / "config.json"
    table = json.loads(file.read_text(encoding="utf-8")) | values
    file.write_text(json.dumps({key: value for key, value in table.items() if value is not None}), encoding="utf-8")


def changed_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "gtp2"}, "model_type 'gtp2' is not known. Did you mean 'gpt2'"),
        ({"model_type": None}, "model_type None is not known"),
        ({"n_embd": None}, "n_embd: expected a whole number from 1 to .*, got None"),
        ({"n_embd": "16"}, "n_embd: expected int, got '16'"),
        ({"n_embd": True}, "n_embd: expected int, got True"),
        ({"n_embd": 0}, "n_embd: expected a whole number from 1 to .*, got 0"),
        ({"n_embd": 2**50}, "n_embd: expected a number from 0 to 2"),
        ({"n_head": 3}, "n_head: expected a divisor of n_embd, which is 16, got 3"),
        ({"activation_function": "mish"}, "activation_function: expected 'gelu' or .* got 'mish'"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon: expected a number from 0"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon: expected a number above 0 and below 1, got 0"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon: expected a number above 0 and below 1, got 0"),
        ({"layer_norm_epsilon": 1}, "layer_norm_epsilon: expected a number above 0 and below 1, got 1"),
        ({"activation_function": "silu"}, "activation_function: expected 'gelu' or .* got 'silu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: expected False"),
        ({"alibi": True}, "'alibi': not known to nanotx, and may change what is computed"),
        ({"n_embd": 32}, "h.{0-1}.attn.c_attn.bias has the shape \\(48,\\), and the config asks for \\(96,\\)"),
        ({"n_layer": 3}, "transformer.h.2.attn.c_attn.bias is missing"),
        ({"n_layer": 1}, "transformer.h.1.attn.c_attn.bias is not of this model"),
        ({"n_layer": 10**6}, "n_layer: expected a whole number from 1 to 10,000, got 1000000"),
    ],
)
def test_config_that_is_wrong_is_refused(folder, values, message):
    changed(folder, **values)
    with pytest.raises((ConfigError, RunError), match=message):
        import_model(folder, 11)


def test_every_fault_of_a_config_is_listed(folder):
    changed(folder, n_embd="16", n_layer=0, activation_function="mish", layer_norm_epsilon=0, alibi=True, n_head=7)
    with pytest.raises(ConfigError) as refused:
        import_model(folder, 11)
    for fault in (
        "6 faults: n_embd: expected int, got '16'",
        "n_layer: expected a whole number from 1 to 10,000, got 0",
        "n_head: expected a divisor of n_embd",
        "layer_norm_epsilon: expected a number above 0",
        "activation_function: expected 'gelu'",
        "'alibi': not known to nanotx",
    ):
        assert fault in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"gpt2"', "\x00"])
def test_config_that_is_no_object_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"config.json: "):
        import_model(folder, 11)


def test_every_fault_of_the_weights_is_listed(folder):
    def change(weights):
        del weights["transformer.h.0.ln_1.bias"]
        weights["more"] = torch.zeros(1)
        weights["transformer.ln_f.weight"] = torch.zeros(3)
        weights["transformer.ln_f.bias"] = torch.zeros(16, dtype=torch.int64)

    changed_weights(folder, change)
    with pytest.raises(RunError) as refused:
        import_model(folder, 11)
    for fault in (
        "h.0.ln_1.bias is missing",
        "more is not of this model",
        "ln_f.weight has the shape (3,)",
        "whole numbers",
    ):
        assert fault in str(refused.value)


def test_weight_that_is_not_finite_is_refused(folder):
    changed_weights(folder, lambda weights: weights["transformer.ln_f.weight"].fill_(torch.nan))
    with pytest.raises(RunError, match=r"ln_f.weight: a weight is NaN or infinite"):
        import_model(folder, 11)
    for numbers in ([torch.inf, -torch.inf], [3e38, 3e38, torch.nan]):
        changed_weights(
            folder, lambda weights, n=numbers: weights["transformer.ln_f.weight"][: len(n)].copy_(torch.tensor(n))
        )
        with pytest.raises(RunError, match=r"ln_f.weight: a weight is NaN or infinite"):
            import_model(folder, 11)
    changed_weights(folder, lambda weights: weights["transformer.ln_f.weight"].fill_(3e38))  # whose sum is infinite
    assert import_model(folder, 11)


def test_greedy_text_is_compared_to_its_end_whatever_ends_a_text_there():
    ours = trained(GPT2, 11, 3)
    theirs = exported(ours, BY_NAME["GPT2LMHeadModel"]).eval()
    theirs.generation_config.eos_token_id = list(range(ours.vocab_size))
    start = torch.tensor([1, 2])
    assert greedy(ours, theirs, start, near=1e-4)[0] == ours.context - len(start) > 1


def test_names_of_the_hub_and_its_constants_are_read(folder):
    model = import_model(folder, 11).model
    weights = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    save_file(weights, folder / "model.safetensors")
    other = import_model(folder, 11).model
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())


def test_rows_that_pad_the_vocabulary_are_left_out(folder):
    imported = import_model(folder, 9)
    assert imported.model.vocab_size == 9
    assert imported.notes == ("2 rows of the embedding have no id, and are left out",)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.allclose(imported.model(ids), import_model(folder, 11).model(ids)[..., :9], atol=1e-6)
    with pytest.raises(RunError, match="the tokenizer has 12 ids, and the embedding 11 rows"):
        import_model(folder, 12)


def test_head_of_its_own_is_not_tied(folder):
    changed_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.ones(11, 16)}))
    imported = import_model(folder, 11)
    assert not imported.model.config.tied
    assert torch.equal(imported.model.head.weight, torch.ones(11, 16))
    assert "not tied" in imported.notes[0]


def test_gate_with_a_relu_is_refused_unless_it_is_a_square(tmp_path):
    exported(trained(QWEN3, 11, 3), BY_NAME["Qwen3ForCausalLM"]).save_pretrained(tmp_path)
    assert import_model(tmp_path, 11).notes == ("gate and up are one weight, so the ffn is a squared ReLU",)
    changed_weights(tmp_path, lambda weights: weights["model.layers.1.mlp.gate_proj.weight"].mul_(2))
    with pytest.raises(RunError, match="a gate with a ReLU is no part of nanotx"):
        import_model(tmp_path, 11)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "not a file of this folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "not a file of this folder"),
        ({"weight_map": {"a": "missing.safetensors"}}, "names missing.safetensors, which is missing"),
        ({"weight_map": {"a": 7}}, "not a file of this folder|no index"),
        ({"weight_map": []}, "no index of shards"),
        ([], "no index of shards"),
    ],
)
def test_index_that_leads_elsewhere_is_refused(folder, index, message):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        import_model(folder, 11)


def test_tensor_in_two_shards_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({"transformer.ln_f.bias": torch.zeros(16)}, folder / "b.safetensors")
    table = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(RunError, match=r"'transformer.ln_f.bias' in a.safetensors and in b.safetensors"):
        import_model(folder, 11)


def test_every_shard_that_is_no_file_of_the_folder_is_listed(folder):
    (folder / "model.safetensors").unlink()
    names = ["gone-1.safetensors", "gone-2.safetensors", "../secret", "C:\\secret", "nul\0"]
    table = {"weight_map": {f"tensor.{number}": name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(RunError) as refused:
        import_model(folder, 11)
    for fault in (
        "gone-1.safetensors, which is missing",
        "gone-2.safetensors, which",
        "'../secret', which is not a file",
    ):
        assert fault in str(refused.value)
    assert str(refused.value).count("not a file of this folder") == 3


def test_pickled_weights_are_read_as_tensors_alone(folder):
    model = import_model(folder, 11).model
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    other = import_model(folder, 11).model
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())
    (folder / "pytorch_model.bin").rename(folder / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(RunError, match=r"00001-of-00002.bin: of these only one whole pytorch_model.bin is read"):
        import_model(folder, 11)


def test_damaged_weights_are_refused(folder):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for part in (data[: len(data) // 2], data[:4], b"", b"\xff" * 64):
        file.write_bytes(part)
        with pytest.raises(RunError, match="no safetensors file that can be read"):
            import_model(folder, 11)


def test_folder_without_anything_is_refused(tmp_path):
    for missing in (tmp_path, tmp_path / "no"):
        with pytest.raises(RunError, match=r"config.json: cannot be read: No such file"):
            import_model(missing, 11)
