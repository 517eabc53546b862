"""The real VTM, vvencapp and vvdecapp, where they are on the PATH: streams with filters, encoders, decoders.

Run them alone with `pytest -m programs`. VTM's configuration files are looked for beside its folder of programs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from stand_ins import same

from vvc_nnr.codec.decoder import ExternalDecoder, decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.nnpf import NNC_TAG_URI, NnpfActivation, NnpfCharacteristics, present_fields
from vvc_nnr.codec.sei import SeiMessage, insert_sei, remove_sei, sei_messages
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.stream_filters import FilterDecisions, FilterSettings
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import ExternalToolError
from vvc_nnr.filters.in_stream import filter_messages
from vvc_nnr.sequences.frame import Frame

pytestmark = pytest.mark.programs
DATA = Path(os.environ.get("VVC_NNR_DATA", "../shared/data")) / "streams"
VTM_ENCODER, VTM_DECODER = (
    shutil.which(name) or shutil.which(f"{name}Static") for name in ("EncoderApp", "DecoderApp")
)
CONFIG = Path(os.path.realpath(VTM_ENCODER or "")).parents[1] / "cfg" / "encoder_intra_vtm.cfg" if VTM_ENCODER else None
vtm_encoder = pytest.mark.skipif(CONFIG is None or not CONFIG.exists(), reason="no VTM encoder on the PATH")
vtm_decoder = pytest.mark.skipif(VTM_DECODER is None, reason="no VTM decoder on the PATH")
vvencapp = pytest.mark.skipif(shutil.which("vvencapp") is None, reason="no vvencapp on the PATH")
vvdecapp = pytest.mark.skipif(shutil.which("vvdecapp") is None, reason="no vvdecapp on the PATH")
NETWORK = bytes(range(256)) * 3 + bytes(7) + b"\x03\x00\x00\x01"
FILTERS = {
    "inside": NnpfCharacteristics(
        id=3,
        property_present_flag=True,
        auxiliary_inp_idc=1,
        inp_order_idc=3,
        out_order_idc=3,
        overlap=9,
        extended_patch_width_cd_delta_minus1=45,
        extended_patch_height_cd_delta_minus1=45,
        complexity_info_present_flag=True,
        parameter_type_idc=1,
        log2_parameter_bit_length_minus3=2,
        num_parameters_idc=6,
        num_kmac_operations_idc=17,
        total_kilobyte_size=274,
        payload_byte=NETWORK,
    ),
    "elsewhere": NnpfCharacteristics(id=4, mode_idc=1, tag_uri="tag:iso.org,2023:15938-17", uri="https://x.org/ä.nnc"),
    "everything": NnpfCharacteristics(
        id=5,
        purpose=1,
        property_present_flag=True,
        num_input_pics_minus1=2,
        input_pic_filtering_flag=(True, False, True),
        absent_input_pic_zero_flag=True,
        component_last_flag=True,
        inp_format_idc=1,
        auxiliary_inp_idc=7,
        inband_prompt_flag=True,
        prompt="sharper",
        inband_seed_flag=True,
        seed=4711,
        inp_order_idc=2,
        inp_tensor_luma_bitdepth_minus8=2,
        inp_tensor_chroma_bitdepth_minus8=2,
        out_format_idc=1,
        out_order_idc=2,
        out_tensor_luma_bitdepth_minus8=2,
        out_tensor_chroma_bitdepth_minus8=2,
        separate_colour_description_present_flag=True,
        colour_primaries=1,
        transfer_characteristics=1,
        matrix_coeffs=1,
        full_range_flag=True,
        constant_patch_size_flag=True,
        patch_width_minus1=63,
        patch_height_minus1=31,
        padding_type=4,
        luma_padding_val=512,
        cb_padding_val=511,
        cr_padding_val=513,
        metadata_extension_num_bits=7,
        for_human_viewing_idc=2,
        for_machine_analysis_idc=1,
        reserved_metadata_extension=5,
        payload_byte=NETWORK,
    ),
    "for others' purposes": NnpfCharacteristics(
        id=6,
        purpose=0,
        property_present_flag=True,
        metadata_extension_num_bits=1 + 8 * 6 + 4,
        application_purpose_tag_uri_present_flag=True,
        application_purpose_tag_uri="tag:x",
        for_human_viewing_idc=1,
        payload_byte=NETWORK,
    ),
}


@pytest.fixture(scope="module")
def stream(real_pictures) -> bytes:
    return VvcEncoder(VvcOptions(37, n_threads=1)).encode(real_pictures(2, 64, 48)).stream


def vtm_decodes(stream: bytes, folder: Path) -> tuple[str, bytes]:
    """The messages as VTM prints them, and its pictures."""
    (folder / "in.266").write_bytes(stream)
    command = [VTM_DECODER, "-b", "in.266", "-o", "out.yuv", "-d", "0", "--OutputDecodedSEIMessagesFilename=sei.txt"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "sei.txt").read_text(errors="surrogateescape"), (folder / "out.yuv").read_bytes()


@vtm_decoder
@pytest.mark.parametrize("suffix", [False, True])
@pytest.mark.parametrize("kind", FILTERS)
def test_vtm_reads_the_same_fields(stream, tmp_path, kind, suffix):
    found = FILTERS[kind]
    running = NnpfActivation(target_id=found.id, persistence_flag=True, target_base_flag=True, output_flag=(True,))
    messages = (found, running) if suffix else (found,)  # VTM 23.13 reads a prefix NNPFA by memory that is not there
    placed = insert_sei(stream, [each.message() for each in messages], suffix=suffix)
    printed, pictures = vtm_decodes(placed, tmp_path)
    lines = re.findall(r"(nnpf[ca]_\w+)(?:\[i\])?: ?(.*)", printed)
    lines = [(name, value) for name, value in lines if "alignment_zero_bit" not in name and "payload_byte" not in name]
    expected = []
    for message in messages:
        for name, value in present_fields(message).items():
            values = value if isinstance(value, tuple) else () if name == "nnpfc_payload_byte" else (value,)
            expected += [str(len(values))] if name == "nnpfa_output_flag" else []  # VTM prints their number
            if name == "nnpfc_reserved_metadata_extension":
                n_bits = found.metadata_extension_num_bits - 4
                values = tuple(int(bit) for bit in f"{value:0{n_bits}b}") if name in dict(lines) else ()
            expected += [text if isinstance(text, str) else str(int(text)) for text in values]
    assert [value.encode(errors="surrogateescape").decode() for _, value in lines] == expected
    if found.mode_idc == 0:
        assert (tmp_path / f"payloadByte{found.id}.nnr").read_bytes() == NETWORK
    assert pictures == vtm_decodes(stream, tmp_path)[1]
    assert remove_sei(placed, lambda message: message.payload_type in (210, 211)) == stream


@pytest.mark.parametrize("tool", [pytest.param("vtm", marks=vtm_decoder), pytest.param("vvdecapp", marks=vvdecapp)])
def test_a_filter_leaves_the_pictures(stream, tool):
    decoded = list(decode_vvc(stream))
    for suffix in (False, True):
        placed = insert_sei(stream, [FILTERS["inside"].message()], at="picture", suffix=suffix)
        same(list(ExternalDecoder(tool).decode(placed)), decoded)
        same(list(decode_vvc(placed)), decoded)


def messages_of_an_update() -> list[SeiMessage]:
    place = {"mode_idc": 1, "tag_uri": NNC_TAG_URI, "uri": "ni:///sha-256-128;x", "payload_byte": b""}
    base = replace(FILTERS["inside"], id=1, **place)
    settings = FilterSettings(filter_id=1, is_kept=True, precision="int8", output_md5=bytes(16))
    return [*filter_messages(base, settings, NETWORK)]


@pytest.mark.parametrize(
    "tool",
    ["ffmpeg", pytest.param("vvdecapp", marks=vvdecapp), pytest.param("vtm", marks=vtm_decoder)],
)
@pytest.mark.parametrize("at", ["once", "picture"])
@pytest.mark.parametrize("suffix", [False, True])
def test_a_filter_its_update_settings_and_decisions_in_one_unit_leave_the_pictures(stream, tool, suffix, at):
    """As adapt and sei insert write them."""
    decisions = FilterDecisions(1, bytes(3000)).message()
    placed = insert_sei(stream, messages_of_an_update(), suffix=suffix, at=at, at_first=[decisions])
    assert len({each.offset_bytes for each in sei_messages(placed) if each.message == decisions}) == 1
    decode = decode_vvc if tool == "ffmpeg" else ExternalDecoder(tool).decode
    same(list(decode(placed)), list(decode_vvc(stream)))


@vtm_decoder
def test_vtm_stops_at_two_filters_that_no_user_data_parts(stream):
    """Also at those of its own encoder; nothing of this package's own pictures hangs on it."""
    base, _, update, running = messages_of_an_update()
    for messages in ([base, update, running], [FILTERS["inside"].message(), FILTERS["elsewhere"].message()]):
        with pytest.raises(ExternalToolError, match="the SEI messages shall have the same SEI payload content"):
            list(ExternalDecoder("vtm").decode(insert_sei(stream, messages, at="once")))


@vvencapp
@vtm_decoder
@pytest.mark.parametrize("suffix", [False, True])
def test_vtm_takes_messages_at_pictures_of_all_temporal_sublayers(real_pictures, tmp_path, suffix):
    (tmp_path / "in.yuv").write_bytes(b"".join(frame.tobytes() for frame in real_pictures(9, 64, 48)))
    coding = "--size 64x48 --format yuv420 --fps 30 --frames 9 --preset faster --qp 37 --intraperiod 8 --threads 1"
    command = ["vvencapp", "--input", "in.yuv", *coding.split(), "--output", "ra.266"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    stream = (tmp_path / "ra.266").read_bytes()
    assert len({unit[1] & 7 for unit in stream.split(b"\x00\x00\x01")[1:]}) > 1
    placed = insert_sei(stream, [FILTERS["inside"].message()], at="picture", suffix=suffix)
    assert vtm_decodes(placed, tmp_path)[1] == vtm_decodes(stream, tmp_path)[1]


ENCODERS = [pytest.param("vtm", marks=[vtm_encoder]), pytest.param("vvencapp", marks=[vvencapp])]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("filters", ["all", "none"])
def test_encoders_code_each_picture(real_pictures, encoder, filters):
    config = CONFIG if encoder == "vtm" else None
    frames = real_pictures(2, 32, 24)
    options = VvcOptions(37, loop_filters=filters, n_threads=1)
    coded = VvcEncoder(options, encoder=encoder, config=config).encode(frames)
    known = read_vvc_stream(coded.stream)
    assert picture_qps(known) == (37, 37)
    assert len(list(decode_vvc(known, width=32, height=24))) == 2
    assert ("VTM" in coded.encoder) == (encoder == "vtm")


@vtm_encoder
def test_vtm_takes_several_configurations_and_arguments(real_pictures, tmp_path):
    more = tmp_path / "mine.cfg"
    more.write_text("MTS: 0\n")
    options = VvcOptions(37, n_threads=1)
    encoder = VvcEncoder(options, encoder="vtm", config=[CONFIG, more], arguments=["--SEIDecodedPictureHash=1"])
    assert len(encoder.encode(real_pictures(1, 32, 24)).pictures) == 1


DIVIDED = ["--EnablePicPartitioning=1", "--Level=6.2", "--Tier=high", "--CTUSize=32", "--Log2MaxTbSize=5"]
DIVIDED += [f"--Max{kind}=32" for kind in ("BTLumaISlice", "BTNonISlice", "BTChromaISlice")]
DIVIDED += [f"--Max{kind}=32" for kind in ("TTLumaISlice", "TTNonISlice", "TTChromaISlice")]
RECTANGLES = ["--RasterScanSlices=0", "--RectSliceFixedWidth=0", "--RectSliceFixedHeight=0"]
TWO_SUBPICTURES = ["--SubPicInfoPresentFlag=1", "--NumSubPics=2", "--SubPicCtuTopLeftX=0 2", "--SubPicCtuTopLeftY=0 0"]
TWO_SUBPICTURES += ["--SubPicWidth=2 3", "--SubPicHeight=3 3", "--SubPicTreatedAsPicFlag=1 1"]
TWO_SUBPICTURES += ["--LoopFilterAcrossSubpicEnabledFlag=0 0", "--MCTSEncConstraint=0"]
PARTITIONS = {  # of 5x3 coding tree units
    "tiles": ["--TileColumnWidthArray=2", "--TileRowHeightArray=1", *RECTANGLES, "--RectSlicePositions=0 14"],
    "runs of tiles": [
        "--TileColumnWidthArray=1",
        "--TileRowHeightArray=1",
        "--RasterScanSlices=1",
        "--RasterSliceSizes=2",
    ],
    "slices of a tile": [
        *("--TileColumnWidthArray=3", "--TileRowHeightArray=3", *RECTANGLES),
        "--RectSlicePositions=0 2 5 12 3 9 13 14",
    ],
    "slices of tiles": [
        *("--TileColumnWidthArray=2", "--TileRowHeightArray=1", *RECTANGLES),
        "--RectSlicePositions=0 11 2 4 7 14",
    ],
    "subpictures": [
        *("--TileColumnWidthArray=2 3", "--TileRowHeightArray=1", *RECTANGLES, *TWO_SUBPICTURES),
        "--RectSlicePositions=0 1 5 6 10 11 2 14",
    ],
    "subpictures of one slice": [
        *("--TileColumnWidthArray=2 3", "--TileRowHeightArray=3", "--RasterScanSlices=0", *TWO_SUBPICTURES),
        "--SingleSlicePerSubpic=1",
    ],
}
LEVELS = ("Rpl", "Dblk", "Sao", "Alf", "DeltaQp")


@vtm_encoder
@pytest.mark.parametrize("in_slices", [False, True])
@pytest.mark.parametrize("configuration", ["lowdelay_P", "randomaccess"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_qps_of_pictures_in_tiles_and_slices(real_pictures, tmp_path, partition, configuration, in_slices):
    raw, coded, n_pictures = tmp_path / "in.yuv", tmp_path / "out.266", 4
    raw.write_bytes(b"".join(frame.to_bit_depth(10).tobytes() for frame in real_pictures(n_pictures, 160, 96)))
    command = [VTM_ENCODER, "-c", str(CONFIG.with_name(f"encoder_{configuration}_vtm.cfg")), "-i", str(raw)]
    command += ["-b", str(coded), "-wdt", "160", "-hgt", "96", "-fr", "30", "-f", str(n_pictures), "-q", "33"]
    command += ["--InputBitDepth=10", "--IntraPeriod=32", *DIVIDED, *PARTITIONS[partition]]
    command += [f"--SliceLevel{level}={int(in_slices)}" for level in LEVELS]
    log = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    logged = {int(poc): int(qp) for poc, qp in re.findall(r"POC +(\d+) .*?QP +(-?\d+)", log)}
    known = read_vvc_stream(coded)
    assert {p.poc: qp for p, qp in zip(known.pictures, picture_qps(known), strict=True)} == logged
    assert len(set(logged.values())) > 2


@pytest.mark.skipif(not DATA.exists(), reason="the streams of VTM are not here")
@pytest.mark.parametrize("tool", [pytest.param("vtm", marks=vtm_decoder), pytest.param("vvdecapp", marks=vvdecapp)])
@pytest.mark.parametrize("name", ["c400", "cksum", "crc", "cropwin", "d8", "d8_nohash", "ldp", "ra16", "cra_cut"])
def test_decoders_give_the_pictures_of_ffmpeg(tool, name):
    decoded: list[Frame] = list(ExternalDecoder(tool).decode(DATA / f"{name}.266"))
    same(decoded, list(decode_vvc(DATA / f"{name}.266")))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("config", ["ra", "ldb"])
def test_encoders_code_inter_pictures(real_pictures, encoder, config):
    name = {"ra": "randomaccess", "ldb": "lowdelay"}[config]
    file = CONFIG.with_name(f"encoder_{name}_vtm.cfg") if encoder == "vtm" else None
    source = real_pictures(9, 64, 48)
    options = VvcOptions(37, n_threads=1, config=config)
    coded = VvcEncoder(options, encoder=encoder, config=file).encode(source, Fraction(30000, 1001))
    assert "".join(picture.slice_type for picture in coded.pictures) == "I" + "B" * 8
    assert len({picture.qp for picture in coded.pictures}) > 2
    assert len({picture.temporal_layer for picture in coded.pictures}) == (1 if config == "ldb" else 5)
    decoded = list(decode_vvc(coded.stream))
    errors = [[np.abs(d.planes[0] - 4.0 * s.planes[0]).mean() for s in source] for d in decoded]
    assert np.argmin(errors, axis=1).tolist() == list(range(9))


@vtm_encoder
@pytest.mark.parametrize(
    ("config", "name", "n_pictures", "fault"),
    [
        ("ra", "lowdelay", 3, "it coded pictures in their order"),
        ("ra", "lowdelay", 10, "it coded pictures in their order"),
        ("ra", "lowdelay", 33, "no intra picture every 32 pictures"),
        ("ra", "lowdelay_P", 2, "it coded P pictures"),
        ("ldb", "lowdelay_P", 2, "it coded P pictures"),
        ("ldb", "lowdelay_P", 10, "it coded P pictures"),
        ("ldb", "randomaccess", 3, "it coded pictures out of their order"),
    ],
)
def test_a_configuration_file_of_another_configuration_is_refused(real_pictures, config, name, n_pictures, fault):
    file = CONFIG.with_name(f"encoder_{name}_vtm.cfg")
    encoder = VvcEncoder(VvcOptions(37, n_threads=1, config=config), encoder="vtm", config=file)
    with pytest.raises(ExternalToolError, match=f"{fault}: give it a configuration for"):
        encoder.encode(real_pictures(n_pictures, 32, 32))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("config", ["ra", "ldb"])
@pytest.mark.parametrize("n_pictures", [1, 2, 3, 4, 33])
def test_any_number_of_pictures_is_of_its_configuration(real_pictures, encoder, config, n_pictures):
    name = {"ra": "randomaccess", "ldb": "lowdelay"}[config]
    file = CONFIG.with_name(f"encoder_{name}_vtm.cfg") if encoder == "vtm" else None
    options = VvcOptions(37, n_threads=1, config=config)
    coded = VvcEncoder(options, encoder=encoder, config=file).encode(n_pictures * real_pictures(1, 32, 32))
    assert len(coded.pictures) == n_pictures
