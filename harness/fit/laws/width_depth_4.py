"""`width_depth_3` and a power law in the count of parameters: Gemstones' four terms (arXiv 2502.06857).

N is close to 12 w^2 d, so that of the three exponents of size two are identified at best.
"""

from harness.fit.laws._width_depth import law_of

LAW = law_of("width_depth_4", ("w", "d", "N", "D"), "McLeish et al. 2025 (arXiv 2502.06857), form as in their code")
