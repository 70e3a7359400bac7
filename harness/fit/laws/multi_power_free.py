"""`multi_power` with free ranges of the exponents beta and gamma, which few runs do not identify."""

from dataclasses import replace

from harness.fit.laws import multi_power
from harness.fit.laws.law import Parameter

FREE = {
    "beta": Parameter("beta", "identity", 0.0, 8.0, (0.3, 0.8), published=0.59785),
    "gamma": Parameter("gamma", "identity", -2.0, 4.0, (0.3, 0.8), published=0.65524),
}

LAW = replace(
    multi_power.LAW,
    id="multi_power_free",
    parameters=tuple(FREE.get(p.name, p) for p in multi_power.LAW.parameters),
    alternatives=(),
)
