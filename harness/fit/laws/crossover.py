"""Learning curves of several recipes, which may cross: L = E_i + A_i/C^alpha_i.

Xiao (arXiv 2409.15156) reports that recipes that win at small scale may lose at large scale. Each recipe (role `group`:
a name) has its own floor, amplitude and exponent; C is the role `flops`, training FLOPs, L nats per token. For floors
that are equal two curves meet at C = (A_1/A_2)^(1/(alpha_1 - alpha_2)). `harness.fit.shared.crossover` finds
where fitted curves cross, and how sure that is.
"""

from dataclasses import replace

from harness.fit.laws import compute_power
from harness.fit.laws.law import by_group

LAW = replace(
    by_group(compute_power.LAW, ("E", "A", "alpha")),
    id="crossover",
    formula="L = E[group] + A[group]/flops^alpha[group]",
    source="Xiao 2024 (arXiv 2409.15156): claim; form from memory, no constants published that could be checked",
)
