"""What is said of a machine that does not fit: on made-up costs of its parts."""

import pytest

from boards import platform
from model.graph import DeitShape
from rtl.config import AcceleratorConfig
from rtl.efficientvit.config import EfficientVitMachine
from rtl.errors import InputError
from rtl.flow.estimate import Resources
from rtl.flow.fit import largest_rows, misfits, predicted, with_rows

SHAPE = DeitShape(
    name="deit_base", bits=8, image_size=224, channels=3, patch_size=16, embed_dim=768, depth=12, heads=12, hidden_dim=3072, classes=1000
)
CONFIG = AcceleratorConfig(shape=SHAPE, rows=66, inputs=768, lanes=22, tile_words=768, weight_ports=3)
BOARD = platform("zcu102")


def parts(row: int, bank: int = 100, rest: int = 20_000) -> dict[str, Resources]:
    found = {"row": Resources(lut=row, dsp=27), "key_value_bank": Resources(lut=bank, bram36=30), "accelerator": Resources(lut=rest)}
    return found | {"total": found["row"] * 66 + found["key_value_bank"] * 3 + found["accelerator"]}


def test_a_machine_that_fits_has_nothing_to_say():
    assert misfits(CONFIG, parts(2_800), BOARD) == []


def test_fewer_rows_are_named_when_they_fit():
    """3,300 LUT a row: 205,560 - 20,000 - 3 x 100 leave room for 56 rows; 56 and less must also suit the attention."""
    over, advice = misfits(CONFIG, parts(3_300), BOARD)
    assert over == "lut must be at most 205,560 (75% of 274,080 on zcu102): 238,100 is not"
    rows = largest_rows(CONFIG, parts(3_300), BOARD)
    assert advice == f"{rows} rows fit (4 passes instead of 3): use --rows {rows}, or fewer bits"
    assert rows == 56 and predicted(CONFIG, rows, parts(3_300)).lut <= 205_560 < predicted(CONFIG, 57 + 1, parts(3_300)).lut


def test_a_machine_that_fits_with_no_rows():
    assert misfits(CONFIG, parts(100, rest=300_000), BOARD)[-1] == "no number of rows fits at 8 bits; use fewer bits or a smaller network"


def test_rows_take_the_most_lanes_that_attention_allows():
    assert with_rows(CONFIG, 50).lanes == 22
    assert with_rows(CONFIG, 20).lanes <= 20
    with pytest.raises(InputError, match="rows must be even"):
        with_rows(CONFIG, 51)


def test_rows_of_an_efficientvit():
    """Its row module is counted again; nothing is said of bits and passes."""
    machine = EfficientVitMachine(image_size=224)
    found = {
        "efficientvit_row": Resources(lut=4_000, dsp=35),
        "depthwise_channel": Resources(lut=900),
        "accelerator": Resources(lut=30_000),
    }
    total = found["efficientvit_row"] * 49 + found["depthwise_channel"] * 16 + found["accelerator"]
    over, advice = misfits(machine, found | {"total": total}, BOARD)
    assert over == "lut must be at most 205,560 (75% of 274,080 on zcu102): 240,400 is not"
    assert advice == "40 rows fit: use --rows 40"
    assert with_rows(machine, 40).rows == 40
    with pytest.raises(InputError, match=r"rows must be 16\.\.64: 15 is not"):
        with_rows(machine, 15)
