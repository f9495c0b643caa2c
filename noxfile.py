"""The parts of .ci/run and the benchmark, each in an environment of its own: ``nox -s tests``."""

from __future__ import annotations

import shutil

import nox

nox.options.envdir = "build/nox"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

TORCH = "torch==2.13.0"  # as in .ci/run: the newest may bring gigabytes of CUDA packages
PRESETS = ["asan", "tsan", "dev", "arm"]
FOLDERS = ["cpp", "cuda", "tests/cpp"]
GPU_TESTS = ["cuda", "cuda_persistent", "device_arrays", "torch_gpu", "bench_gpu"]
ARM_TOOLS = ["aarch64-linux-gnu-g++", "qemu-aarch64-static"]
ENVIRONMENT = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


def install_all(session: nox.Session, *extras: str) -> None:
    """Install the package with the peers that it is compared with."""
    session.install(TORCH)
    session.install(
        f".[{','.join(['test', 'bench', 'digits', 'mpi', 'parity', *extras])}]", "mpich"
    )


@nox.session
def tests(session: nox.Session) -> None:
    """Run the Python tests; arguments after -- go to pytest."""
    install_all(session)
    session.run("pytest", "-p", "no:cacheprovider", *session.posargs, env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Check form and types of Python, and the form of C++."""
    install_all(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    patterns = [f"{folder}/*.{end}" for folder in FOLDERS for end in ("hpp", "cpp", "cu")]
    listing = session.run("git", "ls-files", *patterns, external=True, silent=True)
    session.run("clang-format", "--dry-run", "-Werror", *str(listing).split())


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside the peers; arguments after -- replace --quick."""
    install_all(session)
    session.run("rnnfast", "bench", *(session.posargs or ["--quick"]))


@nox.session
@nox.parametrize("preset", PRESETS, ids=PRESETS)
def cpp(session: nox.Session, preset: str) -> None:
    """Run the C++ tests, under sanitizers and without, and those for Arm under emulation."""
    if preset == "arm" and not all(map(shutil.which, ARM_TOOLS)):
        session.skip(f"needs {' and '.join(ARM_TOOLS)}")
    session.install("cmake>=3.25", "ninja")
    options = ["-G", "Ninja", "-D", "RNNFAST_BUILD_MODULE=OFF"]
    session.run("cmake", "--preset", preset, *options)
    session.run("cmake", "--build", "--preset", preset)
    session.run("ctest", "--preset", preset, *session.posargs)


@nox.session
def emulated(session: nox.Session) -> None:
    """Run the tests of the GPU's engine, built on the CPU; arguments after -- go to pytest."""
    session.install(TORCH)
    session.install(".[test]", "cmake>=3.25", "ninja", "pybind11>=3.0,<4")
    folder = f"{session.create_tmp()}/build"
    options = ["-G", "Ninja", "-D", "RNNFAST_BUILD_MODULE=OFF", "-D", "RNNFAST_CUDA_EMULATION=ON"]
    session.run("cmake", "-S", ".", "-B", folder, *options)
    session.run("cmake", "--build", folder, "--target", "_emulated")
    files = [f"tests/test_{name}.py" for name in GPU_TESTS]
    environment = {**ENVIRONMENT, "RNNFAST_EMULATED": folder}
    session.run("pytest", "-p", "no:cacheprovider", *files, *session.posargs, env=environment)


@nox.session
def short(session: nox.Session) -> None:
    """Run the main job at its shortest: train for six seconds, generate, tell about the machine."""
    session.install(".[cli]")
    model = f"{session.create_tmp()}/text.safetensors"
    session.run("rnnfast", "train", "text", "--minutes", "0.1", "--hidden", "64", "--out", model)
    session.run("rnnfast", "generate", model, "--length", "80", "--prompt", "def ")
    session.run("rnnfast", "info")
