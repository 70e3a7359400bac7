"""Loss of autoregressive models of many kinds of data at the best use of compute: L = L_inf + (C_c/C)^alpha.

Henighan et al. (arXiv 2010.14701). C is the role `flops`; the published constants (`isogap laws henighan_c`) are in
PF-days of 8.64e19 FLOPs, L in nats per token. The floor in compute and that in parameters describe the same entropy:
that they agree is a test (for mathematics they are published as .14 and .28).
"""

from harness.fit.laws import _henighan

LAW = _henighan.law("henighan_c", "flops", "C_c", "PF-days of 8.64e19 FLOPs")
PUBLISHED = _henighan.published("c", "C_c")
