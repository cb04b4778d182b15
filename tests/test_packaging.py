"""Every way of installing finds the same catalog: wheel, sdist, editable and the plain checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Built:
    """What the build made: an sdist, the wheel made from it, and the wheel made directly."""

    checkout: Path
    sdist: Path
    wheel_of_sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the package twice, from a copy of the files that git knows or would take."""
    folder = tmp_path_factory.mktemp("packaging")
    checkout = folder / "checkout"
    _copy_checkout(checkout)
    _build(checkout, folder / "both")
    _build(checkout, folder / "direct", "--wheel")
    (sdist,) = (folder / "both").glob("*.tar.gz")
    (wheel_of_sdist,) = (folder / "both").glob("*.whl")
    (wheel,) = (folder / "direct").glob("*.whl")
    return Built(checkout, sdist, wheel_of_sdist, wheel)


def _copy_checkout(target: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("only a git checkout tells which files are the project's")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def _build(checkout: Path, out: Path, *words: str) -> None:
    """Build with the backend at hand, or else in an environment made for it."""
    backend = importlib.util.find_spec("hatchling") is not None
    isolation = ["--no-isolation"] if backend else []
    command = [sys.executable, "-m", "build", "--outdir", str(out), *isolation, *words]
    done = subprocess.run([*command, str(checkout)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _install(wheel: Path, target: Path) -> Path:
    """Unpack a wheel with pip into a folder of its own; its dependencies are here already."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", target, wheel], check=True)
    return target


def _run(place: Path | None, folder: Path, *words: str) -> str:
    """Run Python in a folder without a package in it, with ``place`` ahead of what is installed."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"PYTHONPATH": str(place)} if place else {}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _imported_from(place: Path | None, folder: Path) -> Path:
    return Path(_run(place, folder, "-c", "import quantpick; print(quantpick.__file__)").strip())


def _listed(place: Path | None, folder: Path) -> object:
    return json.loads(_run(place, folder, "-m", "quantpick", "list", "--json"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return what the environment as it is lists."""
    return _listed(None, tmp_path_factory.mktemp("here"))


def test_the_environment_as_it_is_lists_the_checkouts_catalog(
    here: dict[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    assert _imported_from(None, tmp_path).is_relative_to(ROOT / "src")
    files = (ROOT / "catalog" / "models").rglob("*.json")
    repos = {f"{file.parent.name}/{file.stem}" for file in files}
    assert {model["repo_id"] for model in here["models"]} == repos
    assert len(repos) >= 5


@pytest.mark.parametrize("way", ["wheel", "wheel_of_sdist"])
def test_an_installed_package_lists_the_same_models(
    way: str, built: Built, here: object, tmp_path: Path
) -> None:
    site = _install(getattr(built, way), tmp_path / "site")
    assert _imported_from(site, tmp_path).is_relative_to(site)
    assert _listed(site, tmp_path) == here
    script = _run(site, tmp_path, str(site / "bin" / "quantpick"), "list", "--json")
    assert json.loads(script) == here


def test_a_checkout_elsewhere_lists_the_same_models(
    built: Built, here: object, tmp_path: Path
) -> None:
    source = built.checkout / "src"
    assert _imported_from(source, tmp_path).is_relative_to(source)
    assert _listed(source, tmp_path) == here


def test_the_catalog_at_the_top_is_the_packages_own(built: Built) -> None:
    assert (built.checkout / "catalog").is_symlink()
    assert (built.checkout / "catalog").resolve() == built.checkout / "src/quantpick/catalog"


def test_the_wheel_holds_the_package_its_licence_and_no_tests(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
        licences = {Path(name).name for name in names if "/licenses/" in name}
        for name in names:
            if "/licenses/" in name:
                assert wheel.read(name) == (ROOT / Path(name).name).read_bytes()
    assert licences == {"LICENSE", "NOTICE"}
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"quantpick"}


def test_the_wheel_tells_type_checkers_that_it_is_typed(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        assert "quantpick/py.typed" in wheel.namelist()


def test_the_wheel_made_of_the_sdist_is_the_same(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as direct, zipfile.ZipFile(built.wheel_of_sdist) as other:
        assert {i.filename: i.CRC for i in direct.infolist()} == {
            i.filename: i.CRC for i in other.infolist()
        }


def test_the_sdist_can_be_tested(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml", "tests/conftest.py"} <= names
    assert "src/quantpick/catalog/aliases.json" in names
