"""The names of columns in the tables of a sweep; importing them does not import the tables."""

QUANTITIES = (
    "width", "depth", "N_total", "N_nonembedding", "N_active", "N_trainable", "D", "U", "epochs", "batch_tokens",
    "steps", "lr", "warmup", "schedule", "final_lr_ratio", "decay_fraction", "beta2", "weight_decay",
    "flops", "flops_6nd",
)  # fmt: skip
# The estimators of the gap, from the least to the most trusted.
ESTIMATORS = ("online", "probe", "control", "twin")
MEASURED = (
    "bytes_per_token", "train_loss_final100", "val_loss_final100", "seen_loss", "heldout_loss", "heldout_bpb",
    *(f"gap_{name}{se}" for name in ESTIMATORS for se in ("", "_se")), "minimum_detectable_gap",
    *(f"gap_{name}_bpb{se}" for name in ESTIMATORS[1:] for se in ("", "_se")), "gap_probe_se_source",
    "online_lag", "online_lag_se", "gap_online_first", "gap_online_first_se", "placebo", "placebo_se",
    *(f"placebo_{name}{se}" for name in ("online", "control", "twin") for se in ("", "_se")),
    "gap_drift", "gap_drift_se", "converged", "noise_scale", "document_sd", "paired_sd", "contamination",
)  # fmt: skip
# The file in a run's folder with the numbers of its `measures`, by their columns.
MEASURES_FILE = "measures.json"
# What is measured of each further view of the parameters, whose name follows.
MEASURED_OF_VIEW = (("seen_loss", ""), ("heldout_loss", ""), ("gap_probe", ""), ("gap_probe", "_se"))


def domain_probe_name(domain: str) -> str:
    """The name of the probe on another domain's held-out text."""
    return f"on_{domain}"


def domain_columns(domain: str) -> tuple[str, str, str, str]:
    """The columns of what is measured there: nats per token and its standard error, bits per byte and its own."""
    loss, bits = f"loss_on_{domain}", f"bpb_on_{domain}"
    return loss, f"{loss}_se", bits, f"{bits}_se"


# These columns depend on the machine. All others are the same to the byte whenever and however the sweep is run.
WALL_CLOCK = ("wall_seconds", "tokens_per_second")
