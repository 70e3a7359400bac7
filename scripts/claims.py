"""How often the rules of a study say the right word on the study's own design.

python scripts/claims.py --tables 200 --to sweeps/studies/gap/power.csv
python scripts/claims.py --study repetition --tables 40 --to sweeps/studies/repetition/power.csv

The cells of the gap law's study are those of the presets gap174 and gap1000 with the gaps and errors that the pilot
expects; the runs of the other studies are those of their presets. In worlds with known answers studies are drawn and
judged (`harness.theory.claim_worlds`, `harness.study.papers`). A line a world and claim: the right words, the
share of studies that got one, and the share that got a wrong one.
"""

import argparse
from pathlib import Path

import pandas as pd

from harness.gaps.pilot_errors import expected_from
from harness.study.cells import design_blocks
from harness.study.loss_worlds import design_runs, try_judge
from harness.study.paper import get_paper, paper_names
from harness.study.studies import load_study
from harness.theory.claim_worlds import try_claims
from sweeps.grid import load

PILOT = Path(__file__).resolve().parents[1] / "sweeps" / "studies" / "gap" / "pilot.parquet"


def main() -> None:
    """Print the table, and write it if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=("gap", *paper_names()), default="gap")
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, help="a CSV file")
    options = parser.parse_args()
    if options.study == "gap":
        expected = expected_from(pd.read_parquet(PILOT), PILOT)
        design = design_blocks([load("gap174"), load("gap1000")], expected)
        told = try_claims(design, options.tables, options.seed)
    else:
        paper = get_paper(options.study)
        runs = design_runs(map(load, load_study(options.study).presets))
        told = try_judge(lambda table: paper.judge(table).claims, paper.worlds, runs, options.tables, options.seed)
    print(told.to_string(index=False))
    if options.to:
        told.to_csv(options.to, index=False)


if __name__ == "__main__":
    main()
