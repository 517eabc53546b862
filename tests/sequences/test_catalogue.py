from __future__ import annotations

from collections import Counter

import pytest

from vvc_nnr.sequences.catalogue import CTC_SEQUENCES, ctc_class_of, find_ctc_sequence


def test_classes_have_their_number_of_sequences():
    counts = Counter(sequence.ctc_class for sequence in CTC_SEQUENCES)
    assert counts == {"A1": 3, "A2": 3, "B": 7, "C": 4, "D": 4, "E": 3, "F": 4}


def test_length_is_five_or_ten_seconds_but_for_the_known_exceptions():
    exceptions = {"Tango2", "Campfire", "ParkRunning3", "SlideShow"}
    for sequence in CTC_SEQUENCES:
        if sequence.name not in exceptions:
            assert sequence.n_pictures / sequence.fps in (5, 10), sequence


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("BasketballPass_416x240_50.yuv", ("BasketballPass", "D", 8, 500)),
        ("basketballpass.y4m", ("BasketballPass", "D", 8, 500)),
        ("BasketballDrill_832x480_50.yuv", ("BasketballDrill", "C", 8, 500)),
        ("BasketballDrillText_832x480_50.yuv", ("BasketballDrillText", "F", 8, 500)),
        ("RaceHorses_416x240_30.yuv", ("RaceHorses", "D", 8, 300)),
        ("RaceHorses_832x480_30.yuv", ("RaceHorsesC", "C", 8, 300)),
        ("RaceHorsesC_832x480_30.yuv", ("RaceHorsesC", "C", 8, 300)),
        ("CatRobot1_3840x2160_60fps_10bit_420.yuv", ("CatRobot", "A2", 10, 300)),
        ("Tango2_3840x2160_60fps_10bit_420.yuv", ("Tango2", "A1", 10, 294)),
        ("Kimono1_1920x1080_24.yuv", ("Kimono", "B", 8, 240)),
    ],
)
def test_sequences_are_found_by_file_name(file_name, expected):
    found = find_ctc_sequence(file_name)
    assert found is not None
    assert (found.name, found.ctc_class, found.bit_depth, found.n_pictures) == expected


@pytest.mark.parametrize(
    "file_name",
    ["RaceHorses.yuv", "BasketballPass_832x480_50.yuv", "Basketball_416x240.yuv", "", "foreman_cif.yuv"],
)
def test_others_are_not(file_name):
    assert find_ctc_sequence(file_name) is None


def test_size_given_elsewhere_tells_the_race_horses_apart():
    assert find_ctc_sequence("RaceHorses.y4m", 416, 240).ctc_class == "D"
    assert find_ctc_sequence("RaceHorses.y4m", 832, 480).ctc_class == "C"


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (4096, 2160, "A1"), (3840, 2160, "A1"), (1920, 1080, "B"), (1080, 1920, "B"), (1280, 720, "E"),
        (768, 512, "C"), (640, 272, "D"), (176, 144, "D"), (1, 1, "D"),
    ],
)  # fmt: skip
def test_unknown_sequence_gets_the_class_of_its_size(width, height, expected):
    assert ctc_class_of("holiday.mp4", width, height) == expected


def test_known_sequence_gets_its_own_class():
    assert ctc_class_of("ParkRunning3_3840x2160_50fps_10bit.yuv", 3840, 2160) == "A2"
    assert ctc_class_of("SlideEditing", 1280, 720) == "F"
