from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.sequences.listing import LeftOut, choose_names, distinct_files, has_suffix, list_files, list_folders

IS_PICTURE = has_suffix((".png", ".yuv"))
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path, **options) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_files(folder, IS_PICTURE, **options).paths]


def left_out(folder: Path, **options) -> LeftOut:
    return list_files(folder, IS_PICTURE, **options).left_out


def test_hidden_files_and_what_systems_put_there_are_left_out(tmp_path):
    hidden = [
        "._a.png",
        ".DS_Store",
        "Thumbs.db",
        "Desktop.ini",
        ".git/x.png",
        "__MACOSX/._a.png",
        "@eaDir/a.png/t.png",
    ]
    for name in [*hidden, "a.png", "sub/.ipynb_checkpoints/b.png", "sub/b.PNG"]:
        put(tmp_path / name)
    assert names(tmp_path) == ["a.png", "sub/b.PNG"]
    assert str(left_out(tmp_path)) == "8 hidden files"
    put(tmp_path / "notes.txt")
    assert str(left_out(tmp_path)) == "8 hidden files, 1 of unknown kind (notes.txt)"


def test_a_hidden_folder_is_listed_if_it_is_the_one_named(tmp_path):
    put(tmp_path / ".cache" / "set" / "a.png")
    assert names(tmp_path / ".cache" / "set") == ["a.png"]
    assert names(tmp_path / ".cache") == ["set/a.png"]


def test_unfinished_downloads_are_left_out_and_named(tmp_path):
    for name in ["a.png", "b.png.part", "c.yuv.CRDOWNLOAD", "d.yuv", "d.yuv.aria2", "e.png~"]:
        put(tmp_path / name)
    assert names(tmp_path) == ["a.png"]
    found = left_out(tmp_path)
    assert found.partial == ("b.png.part", "c.yuv.CRDOWNLOAD", "d.yuv", "d.yuv.aria2")
    assert found.unknown == ("e.png~",)


def test_empty_file_of_a_known_kind_is_taken_for_its_reader_to_refuse(tmp_path):
    put(tmp_path / "a.png", b"")
    assert names(tmp_path) == ["a.png"]


@needs_links
def test_linked_folders_are_entered_and_nothing_is_there_twice(tmp_path):
    put(tmp_path / "elsewhere" / "k1.png")
    put(tmp_path / "elsewhere" / "deep" / "k2.png")
    root = tmp_path / "set"
    put(root / "own.png")
    put(root / "z" / "last.png")
    for name, target in [
        ("kodak", tmp_path / "elsewhere"),
        ("kodak_again", tmp_path / "elsewhere"),
        ("deep", tmp_path / "elsewhere" / "deep"),
        ("a_link_to_z", root / "z"),
        ("same.png", root / "own.png"),
        ("other_name.png", tmp_path / "elsewhere" / "k1.png"),
    ]:
        (root / name).symlink_to(target)
    assert names(root) == ["deep/k2.png", "kodak/k1.png", "own.png", "z/last.png"]
    assert left_out(root).repeated == ("a_link_to_z", "kodak/deep", "kodak_again", "other_name.png", "same.png")


@needs_links
def test_a_file_linked_under_a_name_of_its_kind_is_taken(tmp_path):
    put(tmp_path / "blobs" / "0123abcd")
    put(tmp_path / "set" / "b.png")
    (tmp_path / "set" / "a.png").symlink_to("../blobs/0123abcd")
    assert names(tmp_path / "set") == ["a.png", "b.png"]


@needs_links
def test_links_without_end_are_not_followed(tmp_path):
    root = tmp_path / "set"
    put(root / "a" / "x.png")
    put(tmp_path / "beside.png")
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "self").symlink_to(".")
    (root / "above").symlink_to(tmp_path)
    (root / "round").symlink_to("round")
    (root / "gone.png").symlink_to("nowhere")
    found = list_files(root, IS_PICTURE)
    assert [path.name for path in found.paths] == ["x.png"]
    assert found.left_out.upward == ("a/self", "a/up", "above")
    assert found.left_out.broken == ("gone.png", "round")
    assert "2 broken links (gone.png, round)" in str(found.left_out)


@needs_links
def test_links_between_two_folders_outside_end(tmp_path):
    put(tmp_path / "p" / "1.png")
    put(tmp_path / "q" / "2.png")
    (tmp_path / "p" / "to_q").symlink_to(tmp_path / "q")
    (tmp_path / "q" / "to_p").symlink_to(tmp_path / "p")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "in").symlink_to(tmp_path / "p")
    assert names(tmp_path / "set") == ["in/1.png", "in/to_q/2.png"]
    (tmp_path / "by_link").symlink_to(tmp_path / "set")
    assert names(tmp_path / "by_link") == ["in/1.png", "in/to_q/2.png"]


@needs_links
def test_folders_that_are_not_entered_are_named(tmp_path):
    put(tmp_path / "set" / "a.png")
    put(tmp_path / "set" / "sub" / "b.png")
    put(tmp_path / "set" / ".hidden" / "c.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "set" / "sub")
    assert names(tmp_path / "set", enter=False) == ["a.png"]
    words = "1 hidden file, 2 folders that are not entered (linked, sub)"
    assert str(left_out(tmp_path / "set", enter=False)) == words
    assert [path.name for path in list_folders(tmp_path / "set")] == ["linked", "sub"]


def test_order_is_that_of_code_points_by_folder(tmp_path):
    made = ["a/z.png", "a-b/a.png", "B.png", "b.png", "\xe9.png", "e\u0301.png", "10.png", "9.png", "a.png"]
    for name in made:
        put(tmp_path / name)
    wanted = [Path(name) for name in made]
    assert names(tmp_path) == [path.as_posix() for path in sorted(wanted, key=lambda path: path.parts)]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_that_are_no_text_or_break_lines_are_taken_and_shown_in_one_line(tmp_path):
    for name in [b"\xff.png", b"new\nline.png", b"new\nline.txt", b"\xfe.txt"]:
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
    assert len(names(tmp_path)) == 2
    assert str(left_out(tmp_path)) == r"2 of unknown kind (new\nline.txt, \udcfe.txt)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    assert names(tmp_path) == []
    assert left_out(tmp_path).unknown == ("x.png",)


def test_folder_that_may_not_be_listed_is_refused(tmp_path, monkeypatch):
    put(tmp_path / "a.png")
    put(tmp_path / "locked" / "b.png")
    scandir = os.scandir

    def refusing(folder):
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match="locked: cannot be listed: Permission denied"):
        list_files(tmp_path, IS_PICTURE)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_files(tmp_path / "missing", IS_PICTURE)
    with pytest.raises(InputError, match="is a file, must be a folder"):
        list_files(put(tmp_path / "a.png"), IS_PICTURE)


def test_names_of_an_archive_are_chosen_as_files_of_a_folder():
    members = ["set/a.png", "__MACOSX/set/._a.png", "./set/.x/b.png", "c.png.part", "readme", "", "/", "../up.png"]
    taken, found = choose_names(members, IS_PICTURE)
    assert taken == ["set/a.png"]
    assert found.hidden == ("__MACOSX/set/._a.png", "./set/.x/b.png", "../up.png")
    assert (found.partial, found.unknown) == (("c.png.part",), ("readme", "", "/"))


def test_one_line_in_the_log_says_what_was_left_out(tmp_path, caplog):
    left_out(put(tmp_path / "a.png").parent).tell(tmp_path)
    assert not caplog.records
    for number in range(5):
        put(tmp_path / f"{number}.txt")
    left_out(tmp_path).tell(tmp_path)
    (record,) = caplog.records
    assert record.message == f"left out of {tmp_path}: 5 of unknown kind (0.txt, 1.txt, 2.txt, ...)"


@dataclass
class Tree:
    """A folder made at random, and what a listing of it must say, noted when it is made."""

    root: Path
    outside: Path
    rng: random.Random
    wanted: set[Path] = field(default_factory=set)  # real paths
    hidden: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    upward: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    n_made: int = 0

    def name(self, suffix: str = "") -> str:
        self.n_made += 1
        odd = self.rng.choice(["a", "Ä", "ж", " b ", "x.y", "-", "%20", "'", "漢", "#", "A", "(1)", "é"])
        return f"{odd}{self.n_made}{suffix}"

    def fill(self, folder: Path, depth: int) -> None:
        folder.mkdir()
        here = folder.relative_to(self.root)
        for _ in range(self.rng.randrange(2, 9)):
            kind = self.rng.choice(["picture", "picture", "unknown", "hidden", "partial", "broken", "up", "out", "dir"])
            match kind:
                case "picture":
                    self.wanted.add(put(folder / self.name(self.rng.choice([".png", ".PNG", ".yuv"]))))
                case "unknown":
                    self.unknown.add(
                        (here / put(folder / self.name(self.rng.choice([".txt", "", ".png~"]))).name).as_posix()
                    )
                case "hidden":
                    name = f".{self.name('.png')}"
                    put(folder / name / "x.png" if self.rng.random() < 0.5 else folder / name)
                    self.hidden.add((here / name).as_posix())
                case "partial":
                    self.partial.add((here / put(folder / self.name(".png.part")).name).as_posix())
                case "broken":
                    name = self.name(self.rng.choice(["", ".png"]))
                    (folder / name).symlink_to(self.name("gone"))
                    self.broken.add((here / name).as_posix())
                case "up":
                    name = self.name()
                    (folder / name).symlink_to(self.rng.choice([folder, *folder.parents[: len(here.parts) + 1]]))
                    self.upward.add((here / name).as_posix())
                case "out":
                    target = self.outside / self.name()
                    target.mkdir()
                    self.wanted.add(put(target / self.name(".png")))
                    (folder / self.name()).symlink_to(target)
                case "dir" if depth:
                    self.fill(folder / self.name(), depth - 1)

    def add_links_to_what_is_there(self) -> None:
        inside = [path for path in self.wanted if path.is_relative_to(self.root)]
        for path in self.rng.sample(sorted(inside), min(3, len(inside))):
            name = self.name(path.suffix)
            (self.root / name).symlink_to(path)
            self.repeated.add(name)
        folders = sorted({path.parent for path in inside} - {self.root})
        for path in self.rng.sample(folders, min(2, len(folders))):
            name = self.name()
            (self.root / name).symlink_to(path, target_is_directory=True)
            self.repeated.add(name)


@needs_links
def test_random_trees_are_listed_as_they_were_made(tmp_path):
    seed = 20_250
    print(f"seeds {seed} to {seed + 199}")
    n_files = 0
    for each in range(seed, seed + 200):
        base = tmp_path.resolve() / str(each)
        (base / "outside").mkdir(parents=True)
        tree = Tree(base / "set", base / "outside", random.Random(each))
        tree.fill(tree.root, depth=3)
        tree.add_links_to_what_is_there()
        listing = list_files(tree.root, IS_PICTURE)
        real = [Path(os.path.realpath(path)) for path in listing.paths]
        assert len(real) == len(set(real)), each
        assert set(real) == tree.wanted, each
        found = listing.left_out
        for reason in ("hidden", "unknown", "partial", "broken", "upward", "repeated"):
            assert set(getattr(found, reason)) == getattr(tree, reason), (each, reason)
            assert len(getattr(found, reason)) == len(getattr(tree, reason)), (each, reason)
        relative = [path.relative_to(tree.root).parts for path in listing.paths]
        assert relative == sorted(relative), each
        assert list_files(tree.root, IS_PICTURE) == listing
        n_files += len(real)
    assert n_files > 500


def test_copies_of_files_are_left_out_and_named(tmp_path, caplog):
    contents = {"a.png": b"one", "b.png": b"two", "c.png": b"one", "d.png": b"three", "e.png": b"two"}
    paths = [put(tmp_path / name, content) for name, content in contents.items()]
    assert [path.name for path in distinct_files(paths)] == ["a.png", "b.png", "d.png"]
    (record,) = caplog.records
    assert record.message == f"left out of {tmp_path}: 2 copies (c.png equals a.png, e.png equals b.png)"
    assert [path.name for path in distinct_files(paths[:2] + paths[3:], paths[2:3])] == ["b.png", "d.png"]
    assert distinct_files(paths[:2], paths[:2]) == distinct_files([]) == []


@needs_links
def test_what_is_beside_is_found_by_its_links_without_a_word(tmp_path, caplog):
    path = put(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(path)
    assert distinct_files([path, tmp_path / "b.png"], [path]) == []
    assert not caplog.records
    with pytest.raises(InputError, match=r"gone\.png: cannot be read"):
        distinct_files([tmp_path / "gone.png"])


@needs_links
def test_folders_that_are_links_without_end_are_no_folders(tmp_path):
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "sub").mkdir()
    assert list_folders(tmp_path) == [tmp_path / "sub"]
