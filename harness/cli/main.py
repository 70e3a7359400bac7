"""The program `isogap`: it runs a command, and says in one line why one cannot be run."""

import os
import sys
from pathlib import Path

from harness.cli.commands import app
from sweeps.errors import InputError

# Optional packages: the name by which a package is imported -> the extra of isogap that installs it.
EXTRAS = {
    "mwparserfromhell": "text", "resiliparse": "text", "ray": "ray", "s3fs": "objects",
    "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "sqlalchemy": "mlflow", "alembic": "mlflow",
    "trackio": "trackio", "submitit": "slurm",
}  # fmt: skip


def main() -> None:
    """Run the command; unusable input, or a package that is missing, is one line on standard error and status 2."""
    try:
        app()
    except InputError as error:
        _refuse(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        _refuse(f"{package} is not installed: pip install 'isogap[{EXTRAS[package]}]'")
    except OSError as error:
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        path = Path(os.fsdecode(error.filename))
        # Of a name that is too long `Path.is_file` raises what is told here.
        file = next((each for each in (path, *path.parents) if os.path.isfile(each)), None)
        if file and isinstance(error, (FileExistsError, NotADirectoryError)):
            _refuse(InputError(file, "path", "a file", "a folder, or a name that is free"))
        _refuse(InputError(path, "path", error.strerror, "one that can be read and written"))


def _refuse(complaint: object) -> None:
    """Print why a command cannot be run, and end with status 2."""
    print(f"isogap: {complaint}".replace("\n", " "), file=sys.stderr)
    sys.exit(2)
