"""What is seen of a text: the last layer's guess is the model's, a rank counts, a head is found where it looks."""

import pytest
import torch
from torch.nn import functional as F

from nanotx.errors import ConfigError
from nanotx.lens.look import look, to_json
from nanotx.lens.sites import find_head, find_site, sites
from nanotx.nn.attention.linear import LinearKernel
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model

BLOCKS = (PreNorm(attention=Sdpa(heads=2)), PreNorm(attention=LinearKernel(heads=2)))
MODEL = Model(dim=16, layers=4, context=8, softcap=3.0, blocks=BLOCKS).build(11, seed=1).eval()
IDS = [3, 1, 4, 1, 5, 9]


def seen(ids, model=MODEL):
    return look(model, ids)


def test_guess_after_the_last_layer_is_the_models():
    result, log_probs = seen(IDS), F.log_softmax(MODEL(torch.tensor([IDS]))[0].detach(), dim=-1)
    assert list(result.layers) == ["embedding", "0", "1", "2", "3"]
    for place, guess in enumerate(result.final):
        assert guess.token == int(log_probs[place].argmax())
        assert guess.probability == pytest.approx(float(log_probs[place].max().exp()), abs=1e-6)
        assert guess.entropy == pytest.approx(float(-(log_probs[place].exp() * log_probs[place]).sum()), abs=1e-5)
        if place + 1 < len(IDS):
            order = log_probs[place].argsort(descending=True).tolist()
            assert guess.rank == 1 + order.index(IDS[place + 1])
            assert guess.surprise == pytest.approx(-float(log_probs[place, IDS[place + 1]]), abs=1e-5)
    assert result.final[-1].rank is None


def test_guess_after_a_layer_is_that_of_a_model_that_ends_there():
    short = Model(dim=16, layers=2, context=8, softcap=3.0, blocks=BLOCKS).build(11).eval()
    short.load_state_dict({name: MODEL.state_dict()[name] for name in short.state_dict()})
    for item, other in zip(seen(IDS).layers["1"], seen(IDS, short).final, strict=True):
        assert item.token == other.token
        assert item.probability == pytest.approx(other.probability, abs=1e-6)


def test_text_longer_than_the_context_is_its_last_window():
    result = seen([*range(11), *IDS])
    assert result.left_out == 9
    assert result.ids == (9, 10, *IDS)
    with pytest.raises(ConfigError, match="one token at least"):
        seen([])


def test_strongest_head_looks_at_an_earlier_token():
    result = seen(IDS)
    assert sorted(result.maps) == ["0.0", "0.1", "2.0", "2.1"]
    assert sorted(result.without) == ["1.attention", "3.attention"]
    assert "linear has no attention weights" in result.without["1.attention"]
    name, place, weight = result.strongest(4, 1)[0]
    assert weight == max(float(value[4, :4].max()) for value in result.maps.values())
    assert weight == float(result.maps[name][4, place])
    assert result.strongest(0, 1) == []
    plain = to_json(result, list("abcdef"))
    assert len(plain["layers"]["3"]) == 6 and len(plain["attention"]["2.1"]) == 6


def test_place_that_does_not_exist_is_refused_with_those_that_do():
    assert find_head(MODEL, "2.1") == find_head(MODEL, "2.attention.head1") == find_site(MODEL, "2.attention.head1")
    assert find_site(MODEL, "3.ffn")[0].module == "blocks.3.ffn"
    assert len(sites(MODEL)) == 12
    for name in ("2.2", "4.0", "2", "2.x", "", "2.attention.head-1"):
        with pytest.raises(ConfigError, match=r"no head .* layers 0 to 3 have heads 0 to 1, .* such as 0\.0"):
            find_head(MODEL, name)
    with pytest.raises(ConfigError, match=r"Did you mean '2\.attention'"):
        find_site(MODEL, "2.atention")
