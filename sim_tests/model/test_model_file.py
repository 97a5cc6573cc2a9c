"""Networks from files: configs like ours, and one line for everything that is wrong."""

import re

import pytest

from model import zoo
from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS, config_of, deit_config_of
from model.errors import InputError

DEIT = """
family = "deit"
embed_dim = 144
depth = 5
heads = 3
"""
EFFICIENTVIT = """
family = "efficientvit"
name = "b1_again"
widths = [16, 32, 64, 128, 256]
depths = [1, 2, 3, 3, 4]
head_dim = 16
head_widths = [1536, 1600]
"""


def written(tmp_path, text):
    path = tmp_path / "net.toml"
    path.write_text(text)
    return str(path)


def test_a_deit_of_a_file_is_a_config_with_the_defaults(tmp_path):
    config = deit_config_of(written(tmp_path, DEIT))
    tiny = CONFIGS["deit_tiny"]
    assert (config.name, config.embed_dim, config.depth, config.heads) == ("net", 144, 5, 3)
    assert (config.image_size, config.patch_size, config.classes, config.mean) == (
        tiny.image_size,
        tiny.patch_size,
        tiny.classes,
        tiny.mean,
    )


def test_an_efficientvit_of_a_file_is_that_of_the_name(tmp_path):
    config, ours = config_of(written(tmp_path, EFFICIENTVIT)), EFFICIENTVIT_CONFIGS["efficientvit_b1"]
    assert {**vars(config), "name": ours.name} == vars(ours)


def test_a_file_has_a_random_graph(tmp_path):
    text = DEIT + 'name = "small"\nimage_size = 28\npatch_size = 7\nclasses = 10\nmean = [0.3]\nstd = [0.35]\n'
    graph, metadata = zoo.load_graph_and_metadata(written(tmp_path, text), 6)
    assert (graph.shape.name, graph.shape.bits, graph.shape.hidden_dim, graph.shape.tokens) == ("small", 6, 576, 17)
    assert metadata["source"] == "random:0"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'family = "deit"',
            'family = "resnet"',
            "family must be one of deit, efficientvit, or [[operator]] tables given: in {} 'resnet' is not",
        ),
        ('family = "deit"', "", "family must be one of deit, efficientvit, or [[operator]] tables given: in {} None is not"),
        ("heads = 3", "", "a network of family deit must say heads: in {} it is missing"),
        ("heads = 3", "heads = 5", "heads must divide embed_dim: in {} 5 does not divide 144"),
        ("heads = 3", "heads = -3", "heads must be a whole number of 1..65,536: in {} -3 is not"),
        ("heads = 3", 'heads = "three"', "heads must be a whole number of 1..65,536: in {} 'three' is not"),
        ("heads = 3", "heads = 3\ncolour = 2", "colour is something else"),
        ("heads = 3", "heads = 3\npatch_size = 15", "patch_size must divide image_size: in {} 15 does not divide 224"),
        ("heads = 3", "heads = 3\nmean = [0.5, 0.5]", "mean and std must both have 1 or 3 entries: in {} 2 and 3 are not"),
        ("heads = 3", 'heads = 3\nname = "../up"', "name must be letters, digits, _, - and .: in {} '../up' is not"),
        ("heads = 3", "heads =", "a model file must be TOML: {} is not"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, old, new, said):
    path = written(tmp_path, DEIT.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said.format(path))) as error:
        config_of(path)
    assert "\n" not in str(error.value)


def test_the_other_family_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(InputError, match=r"the model must be of the family of deit_micro: .*net.toml is not; give another file"):
        deit_config_of(written(tmp_path, EFFICIENTVIT))
    with pytest.raises(InputError, match=r"a model file must exist: .*none.toml does not"):
        config_of(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match=r"widths must be a list of whole numbers above 0: in .* \[16, 0\] is not"):
        config_of(written(tmp_path, EFFICIENTVIT.replace("[16, 32, 64, 128, 256]", "[16, 0]")))
    with pytest.raises(InputError, match=r"must have one depth per width: .* \(in .*net.toml\)$"):
        config_of(written(tmp_path, EFFICIENTVIT.replace("[1, 2, 3, 3, 4]", "[1, 2]")))
