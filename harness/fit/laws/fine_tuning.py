"""What pretraining leaves for later: losses after fine-tuning and on other text, and gaps after further training."""

import jax.numpy as jnp

from harness.fit.laws.law import Combination, Parameter, PositiveColumn, floor, law, law_of_gaps


@law(
    "L = B/(D_l + D^beta) + E",
    signed=("D",),
    parameters=(
        Parameter("B", "log", 1e-8, 1e15, (1.0,), unit="L"),
        Parameter("D_l", "log", 1e-6, 1e15, (1.0, 10.0, 100.0, 1e4)),
        Parameter("beta", "identity", 0.01, 3.0, (0.2, 0.4, 0.6, 0.9)),
        floor(starts=(0.3,)),
    ),
    source="Lin et al. 2024 (arXiv 2402.02314); constants differ per model and dataset",
    objective="log_squares",
    linear=("B", "E"),
)
def rectified(D, *, B, D_l, beta, E):
    """The rectified law of fine-tuning: what pretraining already taught counts as data, so the loss first falls slowly.

    Lin et al. 2024 (arXiv 2402.02314). D: fine-tuning samples, which may be 0; D_l: what was learned before, as
    samples^beta; L: nats per token after fine-tuning. Its constants are per model and dataset: fit each pair by itself.
    """
    some = D > 0
    return E + B / (D_l + jnp.where(some, PositiveColumn(jnp.where(some, D, 1.0)) ** beta, 0.0))


@law(
    "L = K (L0 - E0)^kappa + E1",
    parameters=(
        Parameter("K", "log", 1e-4, 1e4, (1e-2,), unit="L L0^-kappa"),
        Parameter("kappa", "identity", 0.1, 5.0, (0.7, 1.0, 1.4)),
        # In units of the typical loss. Fits with a higher floor follow noise in the lowest losses, and cannot be
        # extrapolated below that floor.
        Parameter("E0", "identity", 0.0, 0.8, (0.0, 0.2, 0.4, 0.6, 0.75), unit="L0"),
        Parameter("E1", "identity", 0.0, 1.0, (0.1,), unit="L"),
    ),
    source="form: Brandfonbrener et al. 2024 (arXiv 2411.12925); constants are per pair of corpora",
    linear=("K", "E1"),
    combinations=(Combination("kappa", lambda p: p["kappa"]),),
)
def loss_to_loss(L0, *, K, kappa, E0, E1):
    """Loss-to-loss: the losses of the same runs on two corpora lie on one shifted power law.

    Brandfonbrener et al. (arXiv 2411.12925). L0 is the loss on one corpus (or of the model that was trained on it), L
    the loss on another, paired by parameters and compute; both in nats per token. E0 and E1 are the floors of the two
    base laws (`kaplan_floor`). The pairs alone determine the floors only through the curvature, of which there is
    little: where N and D are known, `harness.fit.shared.transfer` takes the floors from the base laws, bootstrapped
    jointly. Rows at or below the floor E0 have nothing that could be transferred: their loss is E1.
    """
    above = L0 - E0
    excess = PositiveColumn(jnp.where(above > 0.0, above, 1.0)) ** kappa
    return E1 + K * jnp.where(above > 0.0, excess, 0.0)


@law_of_gaps(
    "G = G0 w^gamma",
    parameters=(
        Parameter("G0", "log", 1e-8, 1e8, (1.0,), unit="G w^-gamma"),
        Parameter("gamma", "identity", -5.0, 100.0, (0.5, 1.0, 3.0, 10.0)),
    ),
    source="ours; w: cumulative weight decay of Bordt et al. 2024 (arXiv 2410.03249)",
)
def forgetting(w, *, G0, gamma):
    """How a memorised gap decays against the bound of weight decay: G = G0 w^gamma. Ours, not published.

    Bordt et al. (arXiv 2410.03249) bound forgetting by the cumulative weight decay of AdamW, w = prod(1 - eta_t
    lambda): the share of an early update that decay alone leaves in the weights (`quantities.forgetting_bound`).
    They give no law of the gap. This law asks how fast the gap decays: gamma >= 1 is forgetting at least as fast as the
    bound, gamma < 1 a gap that outlives the weights' decay. G is the loss on unseen minus the loss on contaminated text
    (nats per token), measured at several w after the same exposure; rows before the last exposure do not belong in it.
    """
    return G0 * w**gamma
