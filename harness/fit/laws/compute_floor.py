"""A loss that falls with training compute to a floor: L = E + A/C^alpha, the learning curve of one recipe.

C is the role `flops`, training FLOPs (any fixed unit); L is nats per token, or an error. `crossover` compares two of
them (Xiao, arXiv 2409.15156), `frontier` also saturates at small compute.
"""

from harness.fit.law import Law
from harness.fit.laws import _power

LAW = Law(
    id="compute_floor",
    formula="L = E + A/flops^alpha",
    response="L",
    parameters=(
        _power.floor_parameter("E"),
        _power.amplitude_parameter("A"),
        _power.exponent_parameter("alpha"),
    ),
    columns=("flops",),
    predict=_power.floor_and_power("flops", "E", "A", "alpha"),
    source="the form that Hestness et al. 2017 (arXiv 1712.00409) and Henighan et al. 2020 (arXiv 2010.14701) share",
    objective="log_huber",
    linear=("E", "A"),
    rescale=_power.units("flops", "L", "E", "A", "alpha"),
)
