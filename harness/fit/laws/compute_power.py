"""A loss that falls with training compute to a floor: of one recipe, or of compute-optimal models.

C is the role `flops`, training FLOPs (any fixed unit); L is nats per token, or an error. `crossover` compares two of
them (Xiao, arXiv 2409.15156), `frontier` also saturates at small compute.
"""

from harness.fit.laws import _one_variable
from harness.fit.laws.law import Law

LAW = Law(
    id="compute_power",
    formula="L = E + A/C^alpha, C in the role flops",
    response="L",
    parameters=(
        _one_variable.floor_parameter("E"),
        _one_variable.amplitude_parameter("A"),
        _one_variable.exponent_parameter("alpha"),
    ),
    columns=("flops",),
    predict=_one_variable.floor_and_power("flops", "E", "A", "alpha"),
    source="form: Hestness et al. 2017 (arXiv 1712.00409), Henighan et al. 2020 (arXiv 2010.14701), and Porian et al. "
    "2024 (arXiv 2406.19146) on the optima of isoFLOP profiles",
    objective="log_huber",
    linear=("E", "A"),
    rescale=_one_variable.units("flops", "L", "E", "A", "alpha"),
)
