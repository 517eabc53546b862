"""Which encoders there are, and what they may be given."""

from __future__ import annotations

import re

import pytest
from stand_ins import calls_of, frames

from vvc_nnr.codec.encoders import VvcEncoder, encoder_identity, encoder_title
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import ExternalToolError, InputError

OPTIONS = VvcOptions(qp=37, n_threads=1)


def test_the_identity_changes_with_the_program_and_its_configuration(programs, config):
    programs("EncoderApp", "pass")
    first = encoder_identity("vtm", config)
    assert re.fullmatch("vtm [0-9a-f]{16} [0-9a-f]{16}", first)
    assert encoder_identity("vtm", config) == first
    config.write_text("IntraPeriod : 1\n")
    second = encoder_identity("vtm", config)
    programs("EncoderApp", "pass  # another build")
    assert len({first, second, encoder_identity("vtm", config), encoder_identity("vtm", config, ["--MTS=0"])}) == 4
    assert re.fullmatch("libvvenc in ffmpeg version .* [0-9a-f]{16}", encoder_identity("libvvenc"))
    with pytest.raises(InputError, match="encoder 'x265': must be one of libvvenc, vtm, vvencapp"):
        encoder_identity("x265")


def test_options_that_do_not_fit(config):
    with pytest.raises(InputError, match="vtm must have a configuration file: name its cfg/encoder_intra_vtm"):
        VvcEncoder(OPTIONS, encoder="vtm")
    with pytest.raises(InputError, match="takes no configuration file"):
        VvcEncoder(OPTIONS, encoder="vvencapp", config=config)
    with pytest.raises(InputError, match="no such configuration file"):
        VvcEncoder(OPTIONS, encoder="vtm", config=config.with_name("no.cfg"))
    with pytest.raises(InputError, match="encoder 'x265'"):
        VvcEncoder(OPTIONS, encoder="x265")


def test_a_new_program_behind_an_old_script_is_another_encoder(programs, config, tmp_path):
    """A wrapper's own bytes tell nothing of what it starts."""
    real = tmp_path / "build 1" / "EncoderAppReal"
    real.parent.mkdir()
    real.write_text("first build")
    real.chmod(0o755)
    plain = tmp_path / "vtm-build"
    plain.symlink_to(real)
    script = tmp_path / "bin" / "EncoderApp"
    script.write_text(f'#!/bin/sh\nexec {plain} "$@"\n')
    script.chmod(0o755)
    first = encoder_identity("vtm", config)
    real.write_text("second build")
    assert encoder_identity("vtm", config) != first


def test_several_configurations_and_further_arguments(programs, config, tmp_path):
    calls = programs("EncoderApp", "sys.exit('as far as the arguments')")
    more = tmp_path / "mine.cfg"
    more.write_text("")
    encoder = VvcEncoder(VvcOptions(32), encoder="vtm", config=[config, more], arguments=["--QuadtreeTULog2MaxSize=5"])
    with pytest.raises(ExternalToolError, match="as far as the arguments"):
        encoder.encode(frames(1))
    (called,) = calls_of(calls)
    assert called[:4] == ["-c", str(config), "-c", str(more)]
    assert called[-1] == "--QuadtreeTULog2MaxSize=5"
    assert encoder_identity("vtm", [config, more]) != encoder_identity("vtm", config)
    title = encoder_title("vtm", [config, more], ["--MTS=0"])
    assert re.fullmatch(rf"vtm \(EncoderApp \w{{16}}, {config.name} \w{{16}}, mine\.cfg \w{{16}}, --MTS=0\)", title)
    with pytest.raises(InputError, match="libvvenc takes no further arguments, got --x"):
        VvcEncoder(VvcOptions(32), arguments=["--x"])


@pytest.mark.parametrize(("filters", "has_lmcs"), [("all", True), ("deblock-sao", False), ("none", False)])
def test_luma_mapping_counts_as_a_filter(programs, config, filters, has_lmcs):
    calls = programs("EncoderApp", "sys.exit(1)")
    with pytest.raises(ExternalToolError):
        VvcEncoder(VvcOptions(32, loop_filters=filters), encoder="vtm", config=config).encode(frames(1))
    assert ("--LMCSEnable=0" not in calls_of(calls)[0]) == has_lmcs


def test_programs_run_in_a_folder_of_their_own(programs, config, tmp_path, monkeypatch):
    """VTM leaves the networks of a stream where it runs."""
    monkeypatch.chdir(tmp_path)
    programs("EncoderApp", "Path('payloadByte1.nnr').write_bytes(b'x'); sys.exit(1)")
    with pytest.raises(ExternalToolError):
        VvcEncoder(VvcOptions(32), encoder="vtm", config=config).encode(frames(1))
    assert not (tmp_path / "payloadByte1.nnr").exists()
