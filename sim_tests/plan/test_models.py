"""What the planner says of a program of many images, beside a prediction of all of it."""

import pytest

from model.configs import efficientvit_config_of
from model.skeleton import skeleton
from rtl.efficientvit.preset import preset
from rtl.flow.ddr import Memory
from rtl.flow.simulate import IMAGES_PER_RUN
from rtl.plan.cycles import predict
from rtl.plan.models import PredictedModels


@pytest.mark.parametrize(
    ("name", "rows", "most"), [("efficientvit_micro", 16, 0.0), ("efficientvit_micro", 49, 0.0), ("efficientvit_b0", 49, 0.005)]
)
def test_a_program_of_many_images(name, rows, most):
    """Small ones are predicted whole: at 49 rows two pairs would say 7 % too little."""
    graph = skeleton(efficientvit_config_of(name), 8)
    machine = preset(graph, rows=rows, dsp_clock=1)
    found = PredictedModels(network=lambda bits: graph, memory=Memory()).program(machine)
    whole = predict(graph, machine, IMAGES_PER_RUN, Memory())
    assert abs(found.cycles / whole.cycles - 1) <= most and found.images == whole.images
    assert sum(found.account.values()) == pytest.approx(found.cycles, abs=len(found.account))
