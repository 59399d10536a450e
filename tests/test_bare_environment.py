"""What is imported when, and what happens where an extra is not installed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import vitrify

TENSORRT_PACKAGES = ("cuda", "tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings")
TORCH_PACKAGES = {"torch", "torchvision", "timm", "safetensors"}
KNOW_TORCH = ("checkpoints", "conversion", "runtimes.torch", "training", "workflows.export", "workflows.train")
TRAIN_PACKAGES = ("torch", "torchvision", "timm", "safetensors", "onnxscript", "onnxslim", "tensorboard", "matplotlib")


def python(code: str, *, without: tuple[str, ...] = ()) -> str:
    """Runs code in a new interpreter in which some packages cannot be found, and returns what it prints."""
    blocker = f"""
        import importlib.util, sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {without!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Blocker())
        _find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name.partition(".")[0] in {without!r} else _find(name, *a)
    """
    program = textwrap.dedent(blocker) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_vitrify_needs_numpy_alone() -> None:
    loaded = json.loads(
        python(
            """
            import json, sys
            before = set(sys.modules)
            import vitrify
            print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
            """
        )
    )
    third_party = set(loaded) - set(sys.stdlib_module_names) - {"vitrify"}
    assert third_party <= {"numpy"}


def test_every_module_imports_or_names_the_extra() -> None:
    answers = json.loads(
        python(
            """
            import importlib, json, pkgutil
            import vitrify
            from vitrify.errors import MissingExtraError
            answers = {}
            for module in pkgutil.walk_packages(vitrify.__path__, "vitrify.", onerror=lambda name: None):
                if module.name.endswith("__main__"):
                    continue
                try:
                    importlib.import_module(module.name)
                    answers[module.name] = "imported"
                except MissingExtraError as error:
                    answers[module.name] = error.hint
                except ModuleNotFoundError as error:
                    answers[module.name] = f"traceback: {error}"
            print(json.dumps(answers))
            """,
            without=TRAIN_PACKAGES,
        )
    )
    assert answers["vitrify.checkpoints"] == answers["vitrify.conversion"] == 'pip install "vitrify[train]"'
    torch_free = (
        "spec",
        "pixels",
        "datasets",
        "classifier",
        "verify",
        "inspection",
        "cli",
        "runtimes.registry",
        "cuda",
        "tensorrt",
        "artifacts",
        "api",
        "console",
    )
    for name, answer in answers.items():
        if name.removeprefix("vitrify.").startswith(torch_free):
            assert answer == "imported", (name, answer)


def test_only_what_trains_and_converts_knows_pytorch() -> None:
    root = Path(vitrify.__file__).parent
    found: dict[str, list[str]] = {}
    for file in root.rglob("*.py"):
        module = ".".join(file.relative_to(root).with_suffix("").parts)
        known = imported(ast.parse(file.read_text(encoding="utf-8"))) & TORCH_PACKAGES
        if known:
            found[module] = sorted(known)
    assert {module: known for module, known in found.items() if not module.startswith(KNOW_TORCH)} == {}
    assert [name for name in KNOW_TORCH if not any(module.startswith(name) for module in found)] == []


def imported(tree: ast.AST) -> set[str]:
    """The top packages of all imports, those inside functions and for type checkers alone included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            names |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    return {name.partition(".")[0] for name in names}


def test_deployment_works_without_pytorch(artifact: object, photos: object) -> None:
    shown = python(
        f"""
        from vitrify.cli.app import run
        assert run(["predict", {str(artifact)!r}, {str(photos)!r}, "--json"]) == 0
        assert run(["verify", {str(artifact)!r}, "--json"]) == 0
        assert run(["verify", {str(artifact)!r}, "--layers", "--json"]) == 0
        assert run(["eval", {str(artifact)!r}, {str(photos)!r}, "--json"]) == 0
        assert run(["inspect", {str(artifact)!r}, "--json"]) == 0
        assert run(["doctor", "--json"]) == 0
        """,
        without=TRAIN_PACKAGES,
    )
    assert '"label"' in shown


def test_engines_are_understood_without_tensorrt() -> None:
    shown = python(
        """
        import vitrify.cuda, vitrify.tensorrt, vitrify.runtimes.tensorrt, vitrify.workflows.build
        from vitrify.cuda import gpu_or_none
        from vitrify.tensorrt import load_tensorrt
        from vitrify.errors import MissingExtraError
        assert gpu_or_none() is None
        try:
            load_tensorrt()
        except MissingExtraError as error:
            print(error.hint)
        """,
        without=TENSORRT_PACKAGES,
    )
    assert shown.strip() == 'pip install "vitrify[tensorrt]"'


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "data", "-o", "run"],
        ["export", "model.pth", "-o", "model.onnx"],
        ["predict", "model.safetensors", "a.jpg"],
    ],
)
def test_a_missing_extra_is_a_hint(arguments: list[str], tmp_path: object) -> None:
    program = f"""
        import io, os, sys
        os.chdir({str(tmp_path)!r})
        os.makedirs("data/a"); os.makedirs("data/b")
        open("model.pth", "w").close(); open("model.safetensors", "w").close()
        from vitrify.cli.app import run
        code = run({arguments!r})
        print(code)
    """
    assert python(program, without=TRAIN_PACKAGES).strip() == "2"


def test_public_names_are_sorted_and_all_there() -> None:
    assert vitrify.__all__ == sorted(vitrify.__all__)
    for name in vitrify.__all__:
        assert getattr(vitrify, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vitrify.nonsense
