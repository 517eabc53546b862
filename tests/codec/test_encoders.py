"""Which encoders there are, and what they may be given."""

from __future__ import annotations

import re

import pytest

from vvc_nnr.codec.encoders import VvcEncoder, encoder_identity
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import InputError

OPTIONS = VvcOptions(qp=37, n_threads=1)


def test_the_identity_changes_with_the_program_and_its_configuration(programs, config):
    programs("EncoderApp", "pass")
    first = encoder_identity("vtm", config)
    assert re.fullmatch("vtm [0-9a-f]{16} [0-9a-f]{16}", first)
    assert encoder_identity("vtm", config) == first
    config.write_text("IntraPeriod : 1\n")
    second = encoder_identity("vtm", config)
    programs("EncoderApp", "pass  # another build")
    assert len({first, second, encoder_identity("vtm", config)}) == 3
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
