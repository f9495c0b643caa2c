"""The choice of instruction set, the environment, and what importing brings and leaves out."""

from __future__ import annotations

import ast
import inspect
import platform
import re
import subprocess
import sys
from importlib.metadata import files, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import rnnfast
from cases import forced
from processes import launch, run_python

ISAS = rnnfast.info()["isas"]
PACKAGE = Path(rnnfast.__file__).parent

DIGEST = """
def digest():
    import hashlib, numpy as np, rnnfast
    gru = rnnfast.GRU(50, 70, 2, rng=1)
    x = np.random.default_rng(2).standard_normal((9, 11, 50), dtype=np.float32)
    y, _, tape = gru.forward(x)
    return hashlib.sha256(gru.backward(tape, y).flat.tobytes()).hexdigest()
"""


def digest() -> str:
    """Hash the gradients of a fixed call, which depend on how the kernels round."""
    scope: dict[str, Any] = {}
    exec(DIGEST, scope)
    result: str = scope["digest"]()
    return result


# -- RNNFAST_ISA ------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ISAS)
def test_environment_chooses_an_instruction_set_that_really_runs(wanted: str) -> None:
    code = DIGEST + "import rnnfast; i = rnnfast.info(); print(i['isa'], i['isas'], digest())"
    with forced(wanted):
        expected = f"{wanted} {ISAS} {digest()}"
    assert run_python(code, RNNFAST_ISA=wanted) == expected


@pytest.mark.skipif(len(ISAS) == 1, reason="this machine has a single instruction set")
def test_instruction_sets_round_differently() -> None:
    """Or the test above could not tell that another one runs."""
    digests = []
    for isa in (ISAS[0], ISAS[-1]):
        with forced(isa):
            digests.append(digest())
    assert digests[0] != digests[1]


def test_without_a_wish_the_best_one_serves() -> None:
    code = "import rnnfast; print(rnnfast.info()['isa'])"
    assert run_python(code, RNNFAST_ISA="") == ISAS[-1]


def foreign() -> str:
    """Name an instruction set of the other architecture."""
    return "avx2" if platform.machine() in ("aarch64", "arm64") else "neon"


@pytest.mark.parametrize("wanted", [foreign(), "AVX2", " baseline", "best", "ü"])
def test_an_unknown_instruction_set_fails_the_import(wanted: str) -> None:
    done = launch("import rnnfast", RNNFAST_ISA=wanted)
    assert done.returncode == 1 and not done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: RNNFAST_ISA is '{wanted}', expected one of {', '.join(ISAS)}"


def test_use_isa_refuses_the_same_names() -> None:
    before = rnnfast.info()["isa"]
    with pytest.raises(
        ValueError, match=re.escape(f"RNNFAST_ISA is 'x', expected one of {ISAS[0]}")
    ):
        rnnfast._core.use_isa("x")
    assert rnnfast.info()["isa"] == before


# -- RNNFAST_NUM_THREADS ----------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["0", "-1", "1025", "9" * 30, "two", "2.0", "2 threads", "0x2"])
def test_a_bad_number_of_threads_fails_the_import(wanted: str) -> None:
    done = launch("import rnnfast", RNNFAST_NUM_THREADS=wanted)
    assert done.returncode == 1 and not done.stdout
    last = done.stderr.strip().splitlines()[-1]
    text = f"RNNFAST_NUM_THREADS is '{wanted}', expected an integer from 1 to 1024"
    assert last == f"ImportError: {text}"


# -- info -------------------------------------------------------------------------------------


def test_info_tells_what_serves() -> None:
    info = rnnfast.info()
    assert list(info) == ["version", "isa", "isas", "num_threads", "cpu", "compiler"]
    assert info["version"] == rnnfast.__version__ == version("rnnfast")
    assert info["isa"] in info["isas"] and len(set(info["isas"])) == len(info["isas"])
    assert info["num_threads"] == rnnfast.get_num_threads() >= 1
    assert info["cpu"] and re.match(r"(gcc|clang) \d+\.", info["compiler"])


# -- the stub ---------------------------------------------------------------------------------

Signature = list[tuple[str, bool]]  # names, and whether there is a default


def arguments(function: ast.FunctionDef) -> Signature:
    """Name the arguments but self, in their order."""
    names = function.args.args
    required = len(names) - len(function.args.defaults)
    all_of_them = [(a.arg, k >= required) for k, a in enumerate(names)]
    return [a for a in all_of_them if a[0] != "self"]


def stub() -> dict[str, dict[str, Signature] | Signature]:
    """Read _core.pyi: functions, and classes with their methods."""
    found: dict[str, Any] = {}
    for node in ast.parse((PACKAGE / "_core.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = arguments(node)
        elif isinstance(node, ast.ClassDef):
            methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
            found[node.name] = {m.name: arguments(m) for m in methods}
    return found


def compiled_arguments(function: Any) -> Signature:
    """Read the signature that pybind11 writes at the head of a docstring."""
    head = function.__doc__.splitlines()[0]
    (node,) = ast.parse(f"def {head}: ...").body
    assert isinstance(node, ast.FunctionDef)
    return arguments(node)


def compiled() -> dict[str, Any]:
    """Describe the compiled module in the same form."""
    found: dict[str, Any] = {}
    for name, thing in vars(rnnfast._core).items():
        if name.startswith("_"):
            continue
        if not inspect.isclass(thing):
            found[name] = compiled_arguments(thing)
            continue
        own = {k: v for k, v in vars(thing).items() if not k.startswith("_")}
        if (thing.__init__.__doc__ or "").startswith("__init__("):  # Python may make one
            own["__init__"] = thing.__init__
        found[name] = {
            k: [] if isinstance(v, property) else compiled_arguments(v) for k, v in own.items()
        }
    return found


def test_stub_has_the_names_and_arguments_of_the_compiled_module() -> None:
    assert stub() == compiled()


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_stub_passes_stubtest(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"  # pybind11's metaclass, and who cannot be made from Python
    allowed.write_text(
        "rnnfast\\._core\\.(Layer|Packed|Tape|WeightCache)\nrnnfast\\._core\\.(Packed|Tape)\\.__init__\n"
    )
    command = [sys.executable, "-m", "mypy.stubtest", "rnnfast._core", "--ignore-unused-allowlist"]
    done = subprocess.run(
        [*command, "--allowlist", str(allowed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- what is shipped and imported -------------------------------------------------------------


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file() and (PACKAGE / "_core.pyi").is_file()
    shipped = {path.name for path in files("rnnfast") or []}
    editable = any(name.startswith("_editable") for name in shipped)
    assert editable or {"py.typed", "_core.pyi", "layers.py"} <= shipped


def imported(statement: str) -> set[str]:
    """Name the top-level modules that a statement imports beside those of NumPy."""
    code = f"""
import sys, numpy, numpy.random, numpy.typing
before = set(sys.modules)
{statement}
print(*(name for name in set(sys.modules) - before))
"""
    return {name.split(".")[0] for name in run_python(code).split()}


def test_import_needs_numpy_and_the_standard_library_alone() -> None:
    allowed = {"rnnfast", "numpy", *sys.stdlib_module_names}
    assert imported("import rnnfast") - allowed == set()
    assert imported("import rnnfast; rnnfast.info(); rnnfast.LSTM(3, 4)") - allowed == set()


def test_import_brings_the_layers_alone() -> None:
    code = "import sys, rnnfast; print(*sorted(m for m in sys.modules if m.startswith('rnnfast')))"
    core = {"_core", "checks", "device", "flat", "options", "parameters"}
    modules = sorted(core | {"layers", "plan", "quantized", "stream"})
    assert run_python(code).split() == ["rnnfast", *(f"rnnfast.{name}" for name in modules)]


@pytest.mark.parametrize(
    "module",
    [
        "reference", "nn", "optim", "data", "models", "train", "run", "systems", "checkpoint",
        "trained", "gradients", "confusion", "plot", "cli",
    ],
)  # fmt: skip
def test_the_trainers_modules_need_no_optional_package_to_be_imported(module: str) -> None:
    allowed = {"rnnfast", "numpy", *sys.stdlib_module_names}
    assert imported(f"import rnnfast.{module}") - allowed == set()
