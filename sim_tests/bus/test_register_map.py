import json
from itertools import pairwise
from pathlib import Path

from rtl.bus.register_map import ADDRESS_BITS, REGISTERS, WORD_BITS, ErrorCode, as_dict, as_markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "registers.md"


def test_offsets_are_distinct_aligned_and_ascending() -> None:
    offsets = [register.offset for register in REGISTERS]
    assert all(offset % 4 == 0 and 0 <= offset < 1 << ADDRESS_BITS for offset in offsets)
    assert all(left < right for left, right in pairwise(offsets))
    assert len({register.name for register in REGISTERS}) == len(REGISTERS)


def test_fields_fit_and_do_not_overlap() -> None:
    for register in REGISTERS:
        assert 1 <= register.width <= WORD_BITS and register.init < 1 << register.width
        taken = 0
        for field in register.fields:
            mask = (1 << field.width) - 1 << field.low
            assert not taken & mask and mask < 1 << register.width, f"{register.name}.{field.name}"
            taken |= mask


def test_places_that_drivers_rely_on() -> None:
    found = as_dict()
    places = {"control": 0, "status": 4, "error": 8, "id": 0x18, "program_base_lo": 0x40, "result_bytes": 0x78, "count_cycles": 0x80}
    assert {name: found[name]["offset"] for name in places} == places
    assert [code.value for code in ErrorCode] == list(range(9))


def test_dictionary_is_plain_json() -> None:
    assert json.loads(json.dumps(as_dict())) == as_dict()


def test_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == as_markdown(), "run: python -m rtl.bus.register_map > docs/registers.md"
