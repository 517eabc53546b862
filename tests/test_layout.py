"""The layout of the repository: package map, order of the rooms, quiet imports, clean files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDER_OF = {package: ROOT / folder for package, folder in SETUPTOOLS["package-dir"].items()}
ROOMS = ["vvc_nnr", "vvc_nnr.sequences", "vvc_nnr.codec", "vvc_nnr.filters", "vvc_nnr.experiments"]
MAPPED = [room for room in ROOMS if room != "vvc_nnr"]
# Folders and files at the root of a room: each imports only those before it.
FOLDERS_IN_ORDER = {
    "vvc_nnr": [
        "_kernels",
        "errors",
        "children",
        "files",
        "json_text",
        "npy",
        "folder_lock",
        "parallel",
        "bitstream",
        "kernels",
        "roles",
        "options",
        "executors",
        "units",
        "quantize",
        "model",
        "coding",
        "calibrate",
        "network_file",
        "sensitivity",
        "compress",
        "",
        "__main__",
    ],
    "vvc_nnr.codec": [
        "",
        "nal",
        "sei",
        "nnpf",
        "vvc_sps",
        "vvc_pps",
        "vvc_stream",
        "slice_qp",
        "stream_filters",
        "programs",
        "configuration",
        "encoder_logs",
        "decoder",
        "sequence",
        "encoders",
        "image_formats",
    ],
    "vvc_nnr.filters": [
        "",
        "_kernels",
        "bundled",
        "picture_options",
        "networks",
        "zoo",
        "complexity",
        "picture_codecs",
        "picture_file",
        "inference",
        "decisions",
        "in_stream",
        "filtering",
        "training",
        "adaptation",
        "compress",
    ],
    "vvc_nnr.experiments": ["pictures", "records", "tables", "charts", "plots", "zoo", "runs", "report", "cli", ""],
}
MAX_FILES_OF_A_FOLDER = 15

BEFORE_AND_AFTER = """
import importlib, json, logging, os, random, signal, sys, threading, warnings
# Not ours: on a machine that never drew a plot, matplotlib says that it makes its list of fonts.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
{third_party}
import matplotlib, numpy, torch

def state():
    return {{
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "search path": list(sys.path),
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch defaults": (str(torch.get_default_dtype()), torch.are_deterministic_algorithms_enabled()),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "gradients": torch.is_grad_enabled(),
        "random": (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "numpy errors": numpy.geterr(),
        "numpy printing": {{k: str(v) for k, v in numpy.get_printoptions().items()}},
        "warnings": [str(f) for f in warnings.filters],
        "logging": (logging.root.level, len(logging.root.handlers)),
        "signals": str([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]),
        "threads": threading.active_count(),
        "plots": str(sorted(matplotlib.rcParams.items(), key=lambda kv: kv[0])),
        "recursion": sys.getrecursionlimit(),
    }}

before = state()
for name in {modules!r}:
    importlib.import_module(name)
after = state()
changed = [key for key in before if before[key] != after[key]]
sys.exit(f"importing changed: {{changed}}" if changed else 0)
"""

# What runs a user's torch module; nobody else imports these but on call.
TORCH_ADAPTORS = {
    "vvc_nnr.calibrate.compress_calibrated",
    "vvc_nnr.calibrate.coding_at_lambda",
    "vvc_nnr.calibrate.layers",
    "vvc_nnr.calibrate.matrix_parts",
    "vvc_nnr.calibrate.moments",
    "vvc_nnr.calibrate.calibration",
    "vvc_nnr.sensitivity.module_run",
}

# Words of a workplace and paths of one machine; nothing of the kind helps a reader of this repository.
FOREIGN = re.compile(
    rb"""
    (?<![\w.~-])/(?:work|root|home/\w+|Users/\w+)/
    | [A-Z]:\\Users\\
    | shared/(?!data\b)[\w-]+
    | \b(?:house-style|vvc-notes|nnc-bitstream\.md|nnc-vectors|nnpf-sei)\b
    | (?<!scope=")\bsessions?\b
    | \b(?:issue|task)\s*\#?\d
    | \bthis\ (?:issue|task)\b
    | \b(?:Claude|Anthropic|ChatGPT|LLM)\b
    """,
    re.VERBOSE,
)


# What ISO C++ does not have: builtins, attributes, assembly and intrinsics of one compiler, headers of one system.
COMPILER_WORDS = re.compile(
    r"__(?!cplusplus\b)\w+|\basm\b|#\s*pragma (?!once)|\b_mm\d*_\w+|immintrin|intrin\.h|\[\[gnu::"
    r"|\bssize_t\b|<(?:unistd|pthread|sys/\w+)\.h>|\b_MSC_VER\b|\btypeof\b"
)
X86_BLOCK = re.compile(r"^#if NNR_X86$.*?^#(?:else|endif)$", re.DOTALL | re.MULTILINE)
GNU_BLOCK = re.compile(r"^#if NNR_GNU$.*?^#else$", re.DOTALL | re.MULTILINE)


def words_of_one_compiler(source: str) -> list[str]:
    """The words that not every C++ compiler knows, outside what is compiled for x86-64 or for GCC and Clang alone."""
    return COMPILER_WORDS.findall(GNU_BLOCK.sub("", X86_BLOCK.sub("", source)))


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def folder_of(package: str) -> Path:
    """Where a declared package lies, by the longest mapped prefix of its name."""
    prefix = max((p for p in FOLDER_OF if package == p or package.startswith(p + ".")), key=len)
    return FOLDER_OF[prefix].joinpath(*package.removeprefix(prefix).strip(".").split("."))


def modules() -> dict[str, Path]:
    """Name and file of every module of the declared packages."""
    found = {}
    for package in SETUPTOOLS["packages"]:
        for path in sorted(folder_of(package).glob("*.py")):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


def source_folders() -> Iterator[Path]:
    """Folders at the root, without hidden ones, build results and virtual environments."""
    for folder in ROOT.iterdir():
        is_skipped = folder.name.startswith(".") or folder.name in ("build", "dist")
        if folder.is_dir() and not is_skipped and not (folder / "pyvenv.cfg").exists():
            yield folder


def tracked_files() -> list[Path]:
    """All files that belong to the repository: those that git tracks or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        return [p for folder in source_folders() for p in folder.rglob("*") if p.is_file()]
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def imported_names(path: Path) -> Iterator[str]:
    """Every module that a file may import, also inside functions; relative imports as dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room_of(module: str) -> int:
    """Place of a module's room in the one-way order."""
    return max(i for i, room in enumerate(ROOMS) if module == room or module.startswith(room + "."))


def third_party_imports() -> str:
    """The import statements at the top of all modules that are about other packages."""
    statements = set()
    for path in modules().values():
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if names and not any(n.split(".")[0] in ("vvc_nnr", "__future__") for n in names):
                statements.add(ast.unparse(node))
    return "\n".join(sorted(statements))


def test_declared_packages_are_the_folders_with_an_init():
    declared = {folder_of(package) for package in SETUPTOOLS["packages"]}
    found = {init.parent for folder in source_folders() for init in folder.rglob("__init__.py")}
    assert declared == found
    assert set(FOLDER_OF) == set(ROOMS)


def test_modules_beside_the_packages_are_files_at_the_root():
    names = {path.stem for path in ROOT.glob("*.py")} - {"setup"}
    assert set(SETUPTOOLS["py-modules"]) == names


def test_no_module_is_hidden_by_a_package_of_its_name():
    hidden = [path for path in modules().values() if (path.with_suffix("") / "__init__.py").exists()]
    assert hidden == []


def test_every_pattern_of_package_data_matches_a_file():
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert list(folder_of(package).glob(pattern)), f"{package}: {pattern}"


@pytest.mark.parametrize("room", MAPPED)
def test_a_room_under_its_folder_name_says_how_to_import_it(room):
    folder = FOLDER_OF[room].name
    done = python("-c", f"import {folder}", cwd=ROOT)
    assert done.returncode == 1
    message = f"ImportError: import {room}, not {folder} (run: pip install -e .)"
    assert done.stderr.strip().splitlines()[-1] == message


def test_rooms_import_one_way_and_by_full_names():
    wrong = []
    for module, path in modules().items():
        for name in imported_names(path):
            is_relative = name.startswith(".")
            is_short = name.split(".")[0] in {FOLDER_OF[room].name for room in MAPPED}
            is_ours = name == "vvc_nnr" or name.startswith("vvc_nnr.")
            if is_relative or is_short or (is_ours and room_of(name) > room_of(module)):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def place_in_room(module: str, room: str) -> str:
    """The folder, or the file at the root, of a module inside its room; the room's own name is the empty one."""
    return module.removeprefix(room).strip(".").split(".")[0]


@pytest.mark.parametrize("room", FOLDERS_IN_ORDER)
def test_folders_of_a_room_import_one_way(room):
    order, wrong = FOLDERS_IN_ORDER[room], []
    known = set(modules()) | {f"{room}._kernels"}
    for module, path in modules().items():
        if ROOMS[room_of(module)] != room:
            continue
        own = place_in_room(module, room)
        for name in imported_names(path):
            if name in known and ROOMS[room_of(name)] == room and name != room:
                other = place_in_room(name, room)
                if order.index(other) > order.index(own):
                    wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_a_folder_is_one_sentence():
    """At most about fifteen files: more are several ideas."""
    crowded = {}
    for package in SETUPTOOLS["packages"]:
        count = len([p for p in folder_of(package).glob("*.py") if p.stem != "__init__"])
        if count > MAX_FILES_OF_A_FOLDER:
            crowded[package] = count
    assert crowded == {}


def test_the_walk_sees_every_kind_of_import(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("import a.b\ndef f():\n    from vvc_nnr import codec\n    from .. import c\n")
    assert set(imported_names(path)) == {"a.b", "vvc_nnr", "vvc_nnr.codec", "..", "...c"}
    assert room_of("vvc_nnr.codec") == room_of("vvc_nnr.codec.encoders") == 2
    assert room_of("vvc_nnr.errors") == room_of("vvc_nnr") == 0


def test_torch_stays_out_of_the_rooms_before_the_filters(tmp_path):
    early = [name for name in modules() if room_of(name) < ROOMS.index("vvc_nnr.filters")]
    assert set(early) >= TORCH_ADAPTORS
    names = [name for name in early if name not in TORCH_ADAPTORS]
    assert len(names) > 10
    code = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\n"
    code += "sys.exit('torch' in sys.modules)"
    done = python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_itself_imports_nothing_heavy(tmp_path):
    heavy = "{'torch', 'av', 'PIL', 'cv2', 'scipy', 'matplotlib'}"
    code = f"import sys, vvc_nnr; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = python("-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr.strip()) == ("", "")


def test_importing_prints_nothing_and_changes_nothing(tmp_path):
    names = [name for name in modules() if not name.endswith("__main__")]
    code = BEFORE_AND_AFTER.format(third_party=third_party_imports(), modules=names)
    done = python("-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_watch_on_imports_sees_changes(tmp_path):
    (tmp_path / "loud.py").write_text(
        "import os, random, torch\nos.environ['OMP_NUM_THREADS'] = '7'\nrandom.seed(1)\n"
        "torch.set_num_threads(torch.get_num_threads() + 1)\n"
    )
    code = BEFORE_AND_AFTER.format(third_party="", modules=["loud"])
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "importing changed: ['environment', 'torch threads', 'random']"


def test_files_hold_no_workplace_words_and_no_machine_paths():
    found = []
    for path in tracked_files():
        if path == Path(__file__).resolve():
            continue
        data = path.read_bytes()
        for match in FOREIGN.finditer(data):
            line = data.count(b"\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0].decode(errors='replace')}")
    assert found == []


@pytest.mark.parametrize(
    ("text", "is_foreign"),
    [
        (b"see /work/main/x", True),
        (b'open("/home/me/x")', True),
        (b"default ../shared/data", False),
        (b"../shared/notes.md", True),
        (b"in this session", True),
        (b'@pytest.fixture(scope="session")', False),
        (b"issue #2 says", True),
        (b"https://example.org/work/", False),
        (b"network/root/", False),
    ],
)
def test_the_search_for_foreign_words(text, is_foreign):
    assert bool(FOREIGN.search(text)) == is_foreign


def test_kernels_are_for_any_compiler_but_for_one_header():
    headers = [path for folder in ("vvc_nnr", "filters") for path in (ROOT / folder / "_native").glob("*.[ch]pp")]
    assert len(headers) > 30
    wrong = {p.name: words_of_one_compiler(p.read_text()) for p in headers if p.name != "platform.hpp"}
    assert {name: words for name, words in wrong.items() if words} == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("int n = __builtin_ctz(x);", ["__builtin_ctz"]),
        ("#if NNR_X86\nint n = __builtin_ctz(x);\n#endif\n", []),
        ("#if NNR_X86\n#endif\n__m256i a;\n", ["__m256i"]),
        ("#if NNR_X86\n__m256i a;\n#else\n__m128i a;\n#endif\n", ["__m128i"]),
        ("#if NNR_GNU\nasm();\n#else\nasm();\n#endif\n", ["asm"]),
        ("#pragma once\n#pragma GCC unroll 8\n", ["#pragma "]),
        ("int* __restrict a; _mm_pause();", ["__restrict", "_mm_pause"]),
    ],
)
def test_the_search_for_words_of_one_compiler(source, words):
    assert words_of_one_compiler(source) == words


def test_messages_below_the_command_line_speak_to_users_of_python_as_well() -> None:
    """They name an argument, its flag in brackets behind it; whole commands and arguments of programs may stand."""
    rooms = [room for room in ROOMS if room != "vvc_nnr.experiments"]
    found = []
    for path in (path for room in rooms for path in sorted(FOLDER_OF[room].rglob("*.py")) if _is_of(room, path)):
        tree = ast.parse(path.read_text())
        documented = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        inside = {id(part) for each in ast.walk(tree) if isinstance(each, ast.JoinedStr) for part in each.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in documented | inside:
                text = _text_of(node)
                is_command = text.startswith("--") or re.search(r"\b(?:vvc-nnr|pip|ffmpeg) \w+", text)
                if not is_command and re.search(r"(?<!\w)--[a-z]", re.sub(r"\([^()]*\)", "", text)):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text}")
    assert found == []


def _is_of(room: str, path: Path) -> bool:
    others = [FOLDER_OF[other] for other in MAPPED if other != room]
    return not any(other in path.parents for other in others)


def _text_of(node: ast.JoinedStr | ast.Constant) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
