"""What the columns of anyone's table usually mean: the role that a name stands for, and the unit that it hints at."""

import re
from collections.abc import Iterable

# Role -> the names that stand for it, in lower case with _ between words; the earlier is preferred.
USUAL_NAMES = {
    "N": (
        "n", "n_params", "num_params", "params", "n_parameters", "num_parameters", "parameters", "parameter_count",
        "param_count", "params_n", "model_params", "model_parameters", "model_size", "size_params",
        "non_embedding_params", "nonembedding_params", "n_nonembedding",
    ),
    "D": (
        "d", "tokens", "n_tokens", "num_tokens", "train_tokens", "training_tokens", "total_tokens", "tokens_d",
        "token_count", "tokens_seen", "tokens_trained", "dataset_tokens", "num_input_tokens_seen", "consumed_tokens",
    ),
    "U": ("u", "unique_tokens", "n_unique_tokens", "unique_d", "unique_tokens_u"),
    "L": (
        "l", "val_loss", "validation_loss", "valid_loss", "eval_loss", "heldout_loss", "held_out_loss", "test_loss",
        "loss_val", "loss_validation", "loss_valid", "loss_eval", "loss_test", "final_loss", "loss_final",
        "final_val_loss", "loss",
    ),
    "L_train": ("l_train", "train_loss", "training_loss", "loss_train", "final_train_loss"),
    "G": ("g", "gap", "generalization_gap", "generalisation_gap"),
    "B": ("batch", "batch_size", "batch_tokens", "tokens_per_batch"),
    "lr": ("lr", "learning_rate", "peak_lr"),
    "flops": (
        "c", "flops", "compute", "train_flops", "training_flops", "total_flops", "training_compute", "budget",
        "compute_budget", "gflops", "tflops", "pflops", "eflops", "total_gflops", "total_tflops", "total_pflops",
    ),
    "epochs": ("epochs", "n_epochs", "num_epochs"),
    "step": ("step", "steps", "iteration", "iter"),
    "group": ("group", "family", "architecture"),
    "run": ("run", "run_id", "run_name", "run_uuid", "exp_name", "experiment_name", "experiment_id", "trial_id"),
}  # fmt: skip
# A unit at the end of a name, as in "Params (M)"; and words within a name, as in total_gflops, tokens_b.
_FACTORS = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "millions": 1e6, "b": 1e9,
    "bn": 1e9, "billion": 1e9, "billions": 1e9, "g": 1e9, "t": 1e12, "tn": 1e12, "trillion": 1e12, "trillions": 1e12,
    "kflops": 1e3, "mflops": 1e6, "gflops": 1e9, "tflops": 1e12, "pflops": 1e15, "eflops": 1e18, "zflops": 1e21,
    "gflop": 1e9, "tflop": 1e12, "pflop": 1e15, "eflop": 1e18, "zflop": 1e21, "pf_days": 8.64e19, "pf_day": 8.64e19,
    "pflop_days": 8.64e19, "petaflop_days": 8.64e19, "pflops_days": 8.64e19,
}  # fmt: skip
_COUNTED = {"params", "param", "parameters", "tokens", "token", "size", "n", "d", "u", "model_size"}
_BRACKETS = re.compile(r"\s*[(\[{]\s*(?:in\s+)?([^)\]}]*?)\s*[)\]}]\s*$")


def plain_name(column: str) -> str:
    """The name without a unit in brackets, in lower case, with _ between words."""
    return "_".join(re.findall(r"[a-z0-9]+", _BRACKETS.sub("", column).lower()))


def unit_of(column: str) -> tuple[str, float] | None:
    """The unit that a name hints at and its factor: "Params (M)" -> ("M", 1e6); None without a hint."""
    bracket = _BRACKETS.search(column)
    if bracket:
        unit = "_".join(re.findall(r"[a-z0-9]+", bracket[1].lower()))
        words = [unit, *unit.split("_")]
        return next(((bracket[1], _FACTORS[word]) for word in words if word in _FACTORS), None)
    words = plain_name(column).split("_")
    for length in (2, 1):
        for first in range(len(words) - length + 1):
            word = "_".join(words[first : first + length])
            if word in _FACTORS and ("flop" in word or word.startswith("pf_")):
                return word, _FACTORS[word]
    # tokens_b and params_m are billions and millions; loss_b and run_m are not.
    if len(words) > 1 and words[-1] in _FACTORS and "_".join(words[:-1]).removeprefix("n_") in _COUNTED:
        return words[-1], _FACTORS[words[-1]]
    return None


def usual_column(role: str, columns: Iterable[str]) -> str | None:
    """The column that a role's usual names point to; None if there is none.

    A name of the whole column comes before one of its last part only, such as `config.n_params` or `eval/loss`; the
    latter counts only if a single column has it.
    """
    names = USUAL_NAMES.get(role, ())
    whole: dict[str, str] = {}
    last: dict[str, list[str]] = {}
    for column in columns:
        plain = plain_name(column)
        unit = unit_of(column)
        short = plain.removesuffix(f"_{unit[0].lower()}") if unit and not _BRACKETS.search(column) else plain
        for name in (plain, short):
            whole.setdefault(name, column)
        last.setdefault(plain_name(re.split(r"[./]", column)[-1]), []).append(column)
    found = next((whole[name] for name in names if name in whole), None)
    if found is None:
        found = next((last[name][0] for name in names if len(last.get(name, ())) == 1), None)
    return found
