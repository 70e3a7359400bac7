"""Loss of autoregressive models of many kinds of data, in parameters: L = L_inf + (N_c/N)^alpha.

Henighan et al. (arXiv 2010.14701): the same form for images, video, mathematics and text pairs, L_inf being the
entropy of the data and the rest the divergence from it. N without embeddings, L in nats per token, trained until more
data do not matter. Published constants per modality: `isogap laws henighan_n`, or `_henighan.MODALITIES`.
"""

from harness.fit.laws import _henighan

LAW = _henighan.law("henighan_n", "N", "N_c", "parameters without embeddings")
PUBLISHED = _henighan.published("n", "N_c")
