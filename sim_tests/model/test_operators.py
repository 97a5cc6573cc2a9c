"""Networks given operator by operator: the same graph as the family's walk, and one line for everything that is wrong."""

import random
import re

import pytest

from model import zoo
from model.configs import EFFICIENTVIT_CONFIGS, config_of
from model.efficientvit.graph import Convolution, LayerNorm, LinearAttention
from model.errors import InputError
from model.model_file import network_of
from model.skeleton import skeleton

MICRO = EFFICIENTVIT_CONFIGS["efficientvit_micro"]


def toml_of(graph, config, order=lambda tables: tables):
    """The graph's operators as a model file."""
    tables = []
    for operator in graph.operators:
        entries = {"name": operator.name}
        if isinstance(operator, LinearAttention):
            entries |= {"op": "attention", "sources": [scale.source for scale in operator.scales]}
        elif isinstance(operator, Convolution):
            stage = operator.requantizer
            entries |= {"op": "convolution", "source": operator.source, "kernel": operator.kernel, "stride": operator.stride}
            entries |= {"outputs": operator.outputs, "groups": 0 if operator.depthwise else operator.groups}
            entries |= {"hardswish": stage.hardswish is not None} | ({"shortcut": stage.shortcut.source} if stage.shortcut else {})
        else:
            entries |= {"op": "norm" if isinstance(operator, LayerNorm) else "pool", "source": operator.source}
        tables.append("[[operator]]\n" + "".join(f"{key} = {value_of(value)}\n" for key, value in entries.items()))
    head = f'name = "{graph.name}"\nimage_size = {config.image_size}\nhead_dim = {config.head_dim}\n'
    return head + f"mean = {list(config.mean)}\nstd = {list(config.std)}\n" + "".join(order(tables))


def value_of(value):
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def written(tmp_path, text):
    path = tmp_path / "net.toml"
    path.write_text(text)
    return str(path)


def shuffled(tables):
    return random.Random(1).sample(tables, len(tables))


@pytest.mark.parametrize("name", ["efficientvit_micro", "efficientvit_b1"])
def test_operators_give_the_graph_of_the_family_in_any_order(tmp_path, name):
    config = EFFICIENTVIT_CONFIGS[name]
    ours = skeleton(config, 8)
    given = skeleton(network_of(written(tmp_path, toml_of(ours, config, shuffled))), 8)
    assert {key: vars(tensor) for key, tensor in given.tensors.items() if key != "image"} == {
        key: vars(tensor) for key, tensor in ours.tensors.items() if key != "image"
    }
    by_name = {operator.name: operator for operator in given.operators}
    for operator in ours.operators:
        other = by_name[operator.name]
        assert type(other) is type(operator)
        if isinstance(operator, Convolution):
            assert (other.weight.shape, other.stride, other.groups) == (operator.weight.shape, operator.stride, operator.groups)


def test_a_network_of_operators_has_a_random_graph(tmp_path):
    graph, metadata = zoo.load_graph_and_metadata(written(tmp_path, toml_of(skeleton(MICRO, 6), MICRO)), 6)
    assert (graph.name, graph.bits, metadata["source"]) == ("efficientvit_micro", 6, "random:0")


def test_a_network_of_operators_has_no_float_network(tmp_path):
    with pytest.raises(InputError, match=r"^a float network must be of a family: .*net.toml gives operators"):
        config_of(written(tmp_path, toml_of(skeleton(MICRO, 8), MICRO)))


TEXT = """
image_size = 28
mean = [0.3]
std = [0.35]
[[operator]]
name = "stem"
op = "convolution"
source = "image"
outputs = 16
kernel = 3
stride = 2
hardswish = true
[[operator]]
name = "pool"
op = "pool"
source = "stem"
[[operator]]
name = "logits"
op = "convolution"
source = "pool"
outputs = 10
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('source = "image"', 'source = "logits"', "operators must not read each other in a circle: "),
        ('op = "pool"', 'op = "softmax"', "op must be one of convolution, attention, pool, norm: softmax of pool"),
        ('source = "stem"', 'source = "stern"', "an operator must read tensors that there are: stern of pool"),
        ('name = "pool"', 'name = "stem"', "operators must have names of their own: stem"),
        ('op = "pool"', 'op = "norm"', "a norm must read one pixel: 14 x 14 of pool"),
        ('op = "pool"', 'op = "attention"', "q, k and v must fill heads: 16 channels of stem, head_dim 16,"),
        (
            "outputs = 10",
            'outputs = 10\nshortcut = "stem"',
            "a shortcut must have its target's shape: (14, 14, 16) of stem for (1, 1, 10) of logits",
        ),
        ("outputs = 10", "outputs = 10\ngroups = 3", "groups must divide inputs and outputs: 3 of logits, 16 to 10,"),
        ("kernel = 3", "kernel = 4", "kernel must be one of (1, 3, 5): 4 of stem"),
        ("stride = 2", "stride = 3", "stride must be one of (1, 2): 3 of stem"),
        ('name = "logits"', 'name = "result"', "the last operator must be called logits: result"),
        ('source = "pool"', 'source = "stem"', "logits must be of one pixel: 14 x 14"),
        ('source = "pool"', "source = 3", "operator logits must say source, or sources, by name: in {} [3] is something else"),
        ('source = "pool"', 'source = "pool"\ncolour = 1', "colour is something else"),
        ("outputs = 16", "outputs = -1", "outputs must be a whole number of 1..65,536: in {} -1 is not"),
    ],
)
def test_a_wrong_network_is_told_in_one_line(tmp_path, old, new, said):
    assert old in TEXT
    path = written(tmp_path, TEXT.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said.format(path))) as error:
        network_of(path)
    assert "\n" not in str(error.value)
    assert network_of(written(tmp_path, TEXT)).classes == 10
