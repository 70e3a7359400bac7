"""Python's source files cut into pieces, in several processes, because parsing them keeps Python's global lock.

As a program of its own this module cuts the files that are pickled on its input.
"""

import gc
import pickle
import signal
import sys
import tokenize
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from harness.data.docstrings import docstrings, without_docstrings
from harness.data.pieces import cut_code, cut_text, parse, split_lines
from harness.data.streams import cores
from harness.processes import run_module

# The group of a file, the pieces of its code, and the pieces of its docstrings.
FilePieces = tuple[str, list[str], list[str]]
_SHORTEST_DOCSTRING = 100
# So many files are parsed and cut in 1.5 s. Another process takes 0.2 s to start.
_FILES_PER_PROCESS = 500


def cut_files(files: Sequence[tuple[str, Path]], apart: bool) -> list[FilePieces]:
    """The pieces of source files, in any order. Files that are empty or that this Python cannot parse are left out.

    Args:
        files: (group, file) of each.
        apart: take the docstrings out of the code; those of at least 100 characters are returned beside it.
    """
    processes = min(cores(), 1 + len(files) // _FILES_PER_PROCESS)
    shares = [pickle.dumps((files[number::processes], apart)) for number in range(processes)]
    with ThreadPoolExecutor(processes) as threads:
        answers = threads.map(lambda share: run_module("harness.data.sources", given=share), shares)
        return list(chain.from_iterable(pickle.loads(answer) for answer in answers))


def _cut_file(group: str, file: Path, apart: bool) -> FilePieces | None:
    try:
        with tokenize.open(file) as opened:  # tokenize.open reads the encoding that the file declares.
            source = opened.read()
    except (SyntaxError, UnicodeDecodeError):
        return None
    tree = parse(source)
    if not source or tree is None:
        return None
    if not apart:
        return group, cut_code(split_lines(source), tree), []
    texts = [text for text in docstrings(tree) if len(text) >= _SHORTEST_DOCSTRING]
    return group, cut_code(without_docstrings(source, tree), tree), [piece for t in texts for piece in cut_text(t)]


if __name__ == "__main__":
    # Whoever interrupts or ends the parent wants no traceback of this process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Syntax trees have no cycles, and searching them for some is a fifth of the time of parsing.
    gc.disable()
    files, apart = pickle.load(sys.stdin.buffer)
    pieces = [_cut_file(group, file, apart) for group, file in files]
    pickle.dump([found for found in pieces if found], sys.stdout.buffer)
