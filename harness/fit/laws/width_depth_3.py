"""Loss as a sum of power laws in width, depth and tokens over a floor: Gemstones' three terms (arXiv 2502.06857).

w is the width (d_model), d the number of layers, D tokens, L in nats per token. Width and depth stand for N. On the
authors' rows the floor is lost: their own fit ended at E = exp(-4555).
"""

from harness.fit.laws._width_depth import law_of

LAW = law_of("width_depth_3", ("w", "d", "D"), "McLeish et al. 2025 (arXiv 2502.06857), form as in their code")
