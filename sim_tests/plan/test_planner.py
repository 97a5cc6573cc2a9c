"""The search against brute force, on a space whose costs are plain arithmetic."""

from dataclasses import dataclass, replace

import pytest

from boards import platform
from rtl.errors import InputError
from rtl.flow.estimate import Resources
from rtl.plan.planner import CLOSE, MARGIN, Planner, parameters

CLOCK = 100.0


@dataclass(frozen=True)
class Toy:
    bits: int
    rows: int
    lanes: int


class Space:
    """Rows divide the work, lanes a part of it that rows do not help; for 13 rows there are 113, as fast and a little larger."""

    def __init__(self, precisions=range(8, 0, -1)):
        self.precisions = precisions

    def machines(self, bits):
        return ([Toy(bits, rows, lanes) for lanes in (1, 2, 4)] for rows in range(1, 40))

    def larger(self, config):
        return replace(config, rows=113) if config.rows == 13 else None

    def fullest(self, config):
        return replace(config, lanes=4)

    def least_cycles(self, config, memory_bytes):
        return 1e6 / config.rows


class Models:
    def __init__(self):
        self.asked = []

    def cycles_per_image(self, config):
        self.asked.append(config)
        if config.rows == 13:
            raise InputError("13 does not fit")
        return 1e6 / (config.rows % 100) + 1e5 / config.lanes + (3e4 if config.rows % 7 == 0 else 0)

    def resources(self, config):
        return Resources(
            lut=(3000 * (config.rows % 100) + 5 * (config.rows > 100)) * config.bits,
            dsp=20 * (config.rows % 100) * config.lanes,
            ff=1,
            bram36=1,
        )


def planner_of(precisions=range(8, 0, -1)):
    return Planner(space=Space(precisions), models=Models(), board=platform("zcu102"), clock_mhz=CLOCK, memory_bytes=50)


def brute_force(planner, fps):
    """(highest precision that reaches the rate, least price there, fewest cycles at the lowest), each None where there is none."""

    def usable(bits):
        fitting = [config for group in planner.space.machines(bits) for config in group if planner.share(Models().resources(config)) <= 1]
        return [replace(config, rows=113) if config.rows == 13 else config for config in fitting]

    most = CLOCK * 1e6 / (fps * (1 + MARGIN))
    slowest = min((Models().cycles_per_image(config) for config in usable(planner.space.precisions[-1])), default=None)
    for bits in planner.space.precisions:
        reaching = [config for config in usable(bits) if Models().cycles_per_image(config) <= most]
        if reaching:
            return bits, min(planner.price(Models().resources(config)) for config in reaching), slowest
    return None, None, slowest


@pytest.mark.parametrize("fps", [1, 100, 500, 700, 900, 1100, 1300, 1480, 1600, 1e6])
def test_the_plan_is_what_brute_force_finds(fps):
    planner = planner_of()
    plan = planner.plan(fps)
    bits, price, slowest = brute_force(planner, fps)
    assert slowest is not None
    assert plan.limit is not None and slowest <= plan.limit.cycles_per_image <= slowest / (1 - CLOSE) and plan.limit.config.bits == 1
    if bits is None:
        assert plan.chosen is None
    else:
        assert plan.chosen is not None
        assert (plan.chosen.config.bits, planner.price(plan.chosen.resources)) == (bits, price)
        assert plan.chosen.fps(CLOCK) >= fps * (1 + MARGIN)


def test_precisions_fall_as_rates_rise_and_all_of_them_come():
    found = [planner_of().plan(fps).chosen for fps in range(50, 2000, 10)]
    chosen = [machine.config.bits for machine in found if machine is not None]
    assert chosen == sorted(chosen, reverse=True) and len(set(chosen)) > 3
    assert found[-1] is None, "the last rates are out of reach"


def test_a_machine_is_predicted_once_whatever_its_precision():
    planner = planner_of()
    planner.plan(900)
    asked = [replace(config, bits=8) for config in planner.models.asked]
    assert len(asked) == len(set(asked)) < 3 * len(list(planner.space.machines(8)))


def test_only_the_given_precisions_are_planned():
    plan = planner_of((4,)).plan(100)
    assert plan.chosen is not None and plan.limit is not None and plan.chosen.config.bits == plan.limit.config.bits == 4


def test_nothing_fits_a_board_that_is_too_small():
    board = type("Small", (), {"name": "small", "capacity": {"lut": 10, "ff": 10, "dsp": 1, "bram36": 1}, "budget_share": {"lut": 0.75}})
    plan = replace(planner_of(), board=board).plan(10)
    assert plan.chosen is None and plan.limit is None


def test_a_network_that_no_machine_holds_is_refused_with_its_law():
    """What fits the board is refused; as long as some machine is too large for the board, the board is the reason."""

    class Refusing(Models):
        def cycles_per_image(self, config):
            raise InputError("activations must fit: these do not")

    class OneRow(Space):
        def machines(self, bits):
            return iter([[Toy(bits, 1, 1)]])

    planner = planner_of()
    with pytest.raises(InputError, match=r"^activations must fit: these do not$"):
        replace(planner, models=Refusing(), space=OneRow()).plan(10)
    assert replace(planner, models=Refusing()).plan(10).limit is None


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_no_frame_rate_is_refused(fps):
    with pytest.raises(InputError, match=r"^--fps must be positive and finite"):
        planner_of().plan(fps)


def test_parameters_are_those_that_a_machine_has():
    assert parameters(Toy(8, 3, 2)) == {"rows": 3, "lanes": 2}
