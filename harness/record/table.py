"""The tidy tables of a sweep: runs, series, evals, documents. README.md lists every column with its unit."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from harness.files import parquet_bytes, read_object, write_bytes
from harness.record.columns import MEASURED, MEASURED_OF_VIEW, MEASURES_FILE, QUANTITIES, domain_columns
from harness.record.lock import is_live
from harness.record.segments import read_segments
from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import read_configs, recorded_data, texts_of
from models.config import is_published
from models.intervention import defaults_of, get_intervention, name_of, probes_of
from sweeps.cells import derived, intervention_columns, mixture_columns, objective_columns
from sweeps.config import RunConfig
from sweeps.errors import InputError

TableName = Literal["runs", "series", "evals", "documents"]


def runs_table(out: Path, interventions: Iterable[str] = ()) -> pd.DataFrame:
    """One row for each run: its settings, its status, and what was measured (empty until the run is done).

    D, U and batch_tokens are in tokens, flops in FLOPs of the whole run. Losses and gaps are in nats per token, or in
    bits per byte if the name ends in `_bpb`.

    Args:
        interventions: the names of those whose columns the table has, too, if none of the runs uses them.
    """
    live, configs = is_live(out), list(read_configs(out))
    names = sorted({*interventions, *interventions_used(configs)})
    settings, data = setting_columns(configs, names), recorded_data(out)
    domains = sorted({domain for config in configs for domain in config.probe.domains})
    return pd.DataFrame(
        [
            _run_row(out, config, of_run | {"corpus_hash": _corpus_hash(config, data)}, live, names, domains)
            for config, of_run in zip(configs, settings, strict=True)
        ]
    )


def _corpus_hash(config: RunConfig, data: Mapping[str, Mapping[str, str]]) -> str | None:
    """The hashes of the corpora that a run reads, with spaces between; None if one is not recorded."""
    found = [data.get(name, {}).get("corpus") for name, *_ in texts_of(config)]
    return " ".join(dict.fromkeys(map(str, found))) if all(found) else None


def interventions_used(configs: Iterable[RunConfig]) -> set[str]:
    """The names of the interventions that any of the runs uses."""
    return {name_of(fields) for config in configs for fields in config.interventions}


def setting_columns(configs: Sequence[RunConfig], interventions: Iterable[str]) -> list[dict[str, Any]]:
    """The columns of the table of runs that say what each run is, for runs of one sweep.

    Args:
        interventions: the names of those that any of the runs uses.
    """
    starts = any(config.start_from for config in configs)
    mixtures = any(config.model.moe and not is_published(config.model.moe) for config in configs)
    objectives = any(config.model.objective for config in configs)
    rows = []
    for config in configs:
        quantities = derived(config, "total")
        rows.append(
            {
                "run_id": config.run_id,
                "architecture": config.model.architecture,
                "tokenizer": config.data.tokenizer,
                "domain": config.data.domain,
                "seed": config.seed,
                "half": config.data.half,
                "split_seed": config.data.split_seed,
                "draw": config.data.draw,
                "optimizer": config.optimizer.kind,
                **{name: quantities[name] for name in QUANTITIES},
                **({"start_from": config.start_from} if starts else {}),
                **(mixture_columns(config.model) if mixtures else {}),
                **(objective_columns(config.model) if objectives else {}),
                **{key: value for name in interventions for key, value in intervention_columns(config, name).items()},
            }
        )
    return rows


def _run_row(
    out: Path, config: RunConfig, settings: dict[str, Any], live: bool, interventions: list[str], domains: list[str]
) -> dict[str, Any]:
    folder = run_folder(out, config.run_id)
    status = read_status(folder, config.steps, live=live)
    measured, of_model, timing = {}, {}, pd.DataFrame()
    if status.state == "done":
        # The second file is there if the run has a twin, and both have ended.
        measured = _measured(folder / "gap.json") | _measured(folder / "pair.json")
        of_model = _measured(folder / MEASURES_FILE)
        timing = read_segments(folder, "timing")
    per_token = measured.get("bytes_per_token")
    seconds = float(timing["wall_seconds"].to_numpy().sum()) if len(timing) else None
    return {
        "run_id": config.run_id,
        "status": status.state,
        "reason": status.reason,
        **settings,
        **{f"{name}_bytes": per_token and settings[name] * per_token for name in ("D", "U")},
        **{name: measured.get(name) for name in MEASURED},
        **{name: measured.get(name) for name in measured_by(interventions)},
        **{name: measured.get(name) for domain in domains for name in domain_columns(domain)},
        **of_model,
        "wall_seconds": seconds,
        "tokens_per_second": config.tokens / seconds if seconds else None,
    }


def measured_by(interventions: Iterable[str]) -> list[str]:
    """The columns of what is measured for interventions: on their own probes, and on their views of the parameters."""
    names = list(interventions)
    views = [name for name in names if get_intervention(name).view]
    probes = probes_of(map(defaults_of, names))
    of_probes = [f"{name}_loss{se}" for name in probes for se in ("", "_se")]
    return of_probes + [f"{name}_{view}{se}" for view in views for name, se in MEASURED_OF_VIEW]


def _measured(path: Path) -> dict:
    try:
        return read_object(path)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        expected = f"what was measured: delete {path.parent / 'status.json'} and `isogap run` measures it anew"
        raise InputError(path, "gap", type(error).__name__, expected) from None


def segments_table(out: Path, kind: Literal["series", "evals", "documents"]) -> pd.DataFrame:
    """All rows of one kind in the order of the sweep and the steps; the first column is the run's id."""
    frames = []
    for config in read_configs(out):
        frame = read_segments(run_folder(out, config.run_id), kind)
        if len(frame):
            frame.insert(0, "run_id", config.run_id)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def export(out: Path, what: TableName, path: Path) -> int:
    """Write one of the tables as `write_table` does; InputError for a folder that holds no sweep."""
    return write_table(runs_table(out) if what == "runs" else segments_table(out, what), path)


def check_ending(path: Path) -> None:
    """Raise InputError for a file whose ending is neither .csv nor .parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(path, "ending", path.suffix, ".csv or .parquet")


def write_table(table: pd.DataFrame, path: Path) -> int:
    """Write a table as CSV (full precision) or parquet, see `check_ending`; returns the number of rows."""
    check_ending(path)
    if path.suffix == ".csv":
        content = table.to_csv(index=False).encode()
    else:
        content = parquet_bytes(pa.Table.from_pandas(table, preserve_index=False))
    write_bytes(path, content)
    return len(table)
