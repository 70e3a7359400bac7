"""How often the rules for the gap law's claims say the right word on the study's own design.

python scripts/claims.py --tables 200 --to sweeps/studies/gap/power.csv

The cells are those of the presets gap174 and gap1000 with the gaps and errors that the pilot expects. In each world
(the law true; a gap without N; memory that grows with N and with repetition; no gap) studies are drawn and judged. A
line a world and claim: the right words, the share of studies that got one, and the share that got a wrong one.
"""

import argparse
from pathlib import Path

import pandas as pd

from harness.gaps.pilot_errors import expected_from
from harness.study.cells import design_blocks
from harness.theory.claim_worlds import try_claims
from sweeps.grid import load

PILOT = Path(__file__).resolve().parents[1] / "sweeps" / "studies" / "gap" / "pilot.parquet"


def main() -> None:
    """Print the table, and write it if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, help="a CSV file")
    options = parser.parse_args()
    expected = expected_from(pd.read_parquet(PILOT), PILOT)
    design = design_blocks([load("gap174"), load("gap1000")], expected)
    told = try_claims(design, options.tables, options.seed)
    print(told.to_string(index=False))
    if options.to:
        told.to_csv(options.to, index=False)


if __name__ == "__main__":
    main()
