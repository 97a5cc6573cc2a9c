"""Where the cycles of the array went, and how busy the engines beside it were."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.families import Family
from benchmarks.sections.markdown import NONE, Result, by_family, table, used_table
from rtl.flow.account import by_operator, operator_of

#: What the waits of families with engines beside the array come from.
_WAITS = """\
What depthwise layers and attention add to the pointwise work around them stands in the line of the layer that had to wait: "depthwise
engine": pw1 finds the expansion ring full, pw2 or the aggregation's gpw its operands missing; "states": a gpw finds the keys and values
of a tile still in use, an attention step its S and sum of K not there; "hazard": results of earlier steps that are still in flight;
"weights": from DDR; "grid of 16": steps start at multiples of 16 cycles. "drain" is what lies behind the last step of the array: the
head's weights come from DDR when nothing is left to hide them. How long the engines beside the array are busy is the compiler's count,
not a measurement.
"""


def section(results: Sequence[Result]) -> str:
    tables = [_family(family, chosen) for family, chosen in by_family(results)]
    return "## Where the cycles go\n\nWhat the array does or waits for.\n\n" + "\n".join(tables)


def _family(family: Family, results: Sequence[Result]) -> str:
    parts = [row for result in results for row in _operators(family, result)]
    columns = ("result", *family.kinds.values(), "attention busy", *family.engines.values())
    return (
        f"### {family.title}, percent of all cycles\n\n"
        + used_table(columns, [_shares(family, result) for result in results])
        + ("\n" + _WAITS if family.engines else "")
        + f"\n### {family.title}, by operator, cycles per image\n\n"
        + table(("result", "operator", *family.kinds.values()), parts)
        + (_engines(family, results) if family.engines else "")
    )


def _engines(family: Family, results: Sequence[Result]) -> str:
    """The engines beside the array by operator; an attention's there is K^T V."""
    rows = []
    for result in results:
        for engine in family.engines:
            operators: dict[str, int] = {}
            for layer, count in result["account"]["engines"][engine].items():
                operators[operator_of(layer)] = operators.get(operator_of(layer), 0) + count
            rows += [[result["name"], engine, name, f"{count / result['images']:,.0f}"] for name, count in operators.items()]
    return f"\nThe engines beside the array, as planned:\n\n{table(('result', 'engine', 'operator', 'cycles per image'), rows)}"


def _shares(family: Family, result: Result) -> list[str]:
    account = result["account"]
    cycles = sum(account["total"].values())

    def share(count: int) -> str:
        return f"{100 * count / cycles:.1f}"

    busy = share(account["attention_busy"]) if "attention_busy" in account else NONE
    engines = [share(sum(account["engines"][name].values())) for name in family.engines]
    return [result["name"], *(share(account["total"][kind]) for kind in family.kinds), busy, *engines]


def _operators(family: Family, result: Result) -> list[list[str]]:
    operators = by_operator(result["account"]["layers"])
    return [
        [result["name"], name, *(f"{kinds[kind] / result['images']:,.0f}" for kind in family.kinds)] for name, kinds in operators.items()
    ]
