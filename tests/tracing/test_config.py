"""The `tracing` section; and that nothing is there of it where it is absent."""

from __future__ import annotations

import json
import re
import sys
from asyncio import create_subprocess_exec, subprocess
from pathlib import Path

import pytest

from tests.app.helpers import BRIDGES, CANARY, faults, load

ROOT = Path(__file__).parents[2]
HEAD = "gateway: a\n"

ONE_LIFE = """
import asyncio, sys
from pathlib import Path
import tidegate.app.cli, tidegate.client
from tidegate.app.config_file import load_config
from tidegate.app.gateway import Gateway

async def main():
    async with Gateway() as gateway:
        await gateway.apply(load_config(Path(sys.argv[1])))

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
"""

WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from tidegate.app.cli import main
sys.exit(main(["check", sys.argv[1]]))
"""


async def python(code: str, *arguments: str | Path) -> tuple[int | None, str, str]:
    """Run a program; return its exit status and what it wrote."""
    command = (sys.executable, "-c", code, *map(str, arguments))
    process = await create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(("tracing", "loaded"), [("null", False), ("{}", True)])
async def test_nothing_of_opentelemetry_is_loaded_unless_it_is_configured(
    tmp_path: Path, tracing: str, loaded: bool
) -> None:
    path = tmp_path / "tidegate.yaml"
    path.write_text(f"{HEAD}http: null\ntracing: {tracing}\n{BRIDGES}")
    status, out, err = await python(ONE_LIFE, path)
    assert status == 0, err
    assert bool(json.loads(out.replace("'", '"'))) is loaded


async def test_without_the_extra_the_configuration_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.yaml"
    path.write_text(f"{HEAD}tracing: {{}}\n{BRIDGES}")
    assert await python(WITHOUT, path) == (
        78, "", f"{path}: line 2, tracing: tracing needs the extra 'otel': pip install 'tidegate[otel]'\n"
    )  # fmt: skip
    path.write_text(HEAD + BRIDGES)
    assert (await python(WITHOUT, path))[0] == 0


def test_the_headers_come_from_a_variable_too(tmp_path: Path) -> None:
    text = f"{HEAD}tracing: {{headers: '${{H}}', sample: 1}}\n{BRIDGES}"
    tracing = load(tmp_path, text, H=f"X-Key: {CANARY}").tracing
    assert tracing is not None
    assert CANARY not in repr(tracing)
    assert (tracing.endpoint, tracing.sample) == ("http://127.0.0.1:4318", 1)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            f"headers: 'X-Key: {CANARY}'",
            ".headers: a secret has no place in the file: use headers_file, or ${VARIABLE}",
        ),
        ("headers: '${H}'", ".headers: line 1 is no header; should be as 'Authorization: Bearer x', in ASCII"),
        ("headers_file: none", ".headers_file: the file FOLDER/none can't be read: No such file or directory"),
        ("headers: '${OK}', headers_file: tidegate.yaml", ": headers and headers_file exclude each other"),
        ("sample: 1.5", ".sample: should be less than or equal to 1"),
        ("sample: -1", ".sample: should be greater than or equal to 0"),
        ("endpoint: 127.0.0.1:4318", ".endpoint: should be http://host:port or https://host:port"),
        ("endpoint: 'http://h:99999'", ".endpoint: should be http://host:port or https://host:port"),
        (
            f"endpoint: 'http://u:{CANARY}@h:1'",
            ".endpoint: a user or password has no place in a URL; use headers_file",
        ),
        (
            f"endpoint: 'http://h:1/?key={CANARY}'",
            ".endpoint: should be http://host:port or https://host:port, and at most a path after it",
        ),
        (
            "endpoint: 'http://h:1/a b'",
            ".endpoint: should be http://host:port or https://host:port, and at most a path after it",
        ),
        ("samples: 1", ".samples: unknown key; did you mean 'sample'?"),
    ],
)
def test_what_can_not_work_is_refused_in_one_sentence_without_a_secret(
    tmp_path: Path, options: str, fault: str
) -> None:
    (found,) = faults(tmp_path, f"{HEAD}tracing: {{{options}}}\n{BRIDGES}", H=CANARY, OK="X-Key: x")
    assert found == f"line 2, tracing{fault}".replace("FOLDER", str(tmp_path))


def test_the_configuration_in_the_documentation_is_valid(tmp_path: Path) -> None:
    (section,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs/tracing.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "tracing").touch()
    assert load(tmp_path, HEAD + section + BRIDGES).tracing


def test_the_section_of_the_sample_works_without_its_comment_signs(tmp_path: Path) -> None:
    sample = (ROOT / "deploy" / "tidegate.yaml").read_text()
    start = sample.index("tracing: null")
    section = sample[start:].replace("tracing: null", "tracing:")
    section = re.sub("^  # ", "  ", section, flags=re.MULTILINE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "tracing").touch()
    (tmp_path / "ca.pem").touch()
    tracing = load(tmp_path, HEAD + section + BRIDGES).tracing
    assert tracing is not None
    assert tracing.model_fields_set == {"endpoint", "sample", "headers_file", "ca"}
    assert tracing.sample == type(tracing).model_fields["sample"].default
