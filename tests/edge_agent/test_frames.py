import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from plantfed_agent.frames import LENGTH, Frame, decode, encode

headers = st.dictionaries(
    st.text(max_size=9).filter(lambda key: key != "arrays"),
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    max_size=4,
)
vectors = st.dictionaries(
    st.text(min_size=1, max_size=5),
    arrays(np.float32, st.integers(0, 20)) | arrays(np.uint32, 3),
    max_size=3,
)


@given(headers, vectors)
@settings(deadline=None)
def test_decode_is_the_inverse_of_encode(header, named):
    encoded = encode(Frame(header, named))
    (length,) = LENGTH.unpack_from(encoded)
    assert length == len(encoded) - LENGTH.size
    frame = decode(encoded[LENGTH.size :])
    assert frame.header == header
    assert list(frame.arrays) == list(named)
    for name, values in named.items():
        assert frame.arrays[name].dtype == values.dtype
        assert frame.arrays[name].tobytes() == values.tobytes()
        assert frame.arrays[name].flags.writeable


def test_bytes_of_a_frame():
    encoded = encode(Frame({"a": 1}, {"v": np.float32([1.0])}))
    header = b'{"a": 1, "arrays": [["v", 1, "f"]]}'
    assert encoded == b"\x2b\0\0\0" + b"\x23\0\0\0" + header + b"\0\0\x80\x3f"
