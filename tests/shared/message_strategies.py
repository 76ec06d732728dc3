"""Hypothesis strategies for every type of message."""

from hypothesis import strategies as st

from plantfed_shared.messages import (
    MAX_CONTENT_BYTES,
    MAX_DEFINITION_BYTES,
    MAX_PARTS,
    MAX_RANGES,
    Bye,
    Chunk,
    Code,
    Content,
    Epoch,
    Group,
    Hello,
    Manifest,
    Message,
    ModelName,
    ModelOffer,
    ModelStep,
    Need,
    Offer,
    Part,
    Range,
    Start,
    State,
    Status,
    Update,
    Verdict,
    Want,
    Welcome,
)

u32 = st.integers(0, 2**32 - 1)
claimed_incarnations = st.integers(0, 2**31 - 1)
positive_u32 = st.integers(1, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
digests = st.binary(min_size=16, max_size=16)
software = st.text(max_size=32)

epochs = st.builds(Epoch, u32, u64)
model_names = st.builds(ModelName, epochs, u32, u64)
contents = st.builds(Content, digests, st.integers(1, MAX_CONTENT_BYTES))
definitions = st.builds(Content, digests, st.integers(1, MAX_DEFINITION_BYTES))
model_offers = st.builds(ModelOffer, model_names, definitions, st.booleans())
model_steps = st.builds(ModelStep, u32, st.none() | u32)
ranges = st.builds(Range, u32, u32)
verdicts = st.builds(Verdict, u64, st.sampled_from(Code), st.text(max_size=300))
parts = st.integers(0, MAX_PARTS - 1)

MESSAGES: dict[type[Message], st.SearchStrategy[Message]] = {
    Hello: st.builds(
        Hello,
        epoch=st.none() | epochs,
        incarnation=claimed_incarnations,
        applied_seq=u32,
        outstanding=st.none() | u64,
        dual_checksum=u64,
        newest=st.none() | model_names,
        software=software,
        proof=st.none() | u64,
    ),
    Update: st.builds(
        Update,
        base=model_names,
        incarnation=claimed_incarnations,
        seq=positive_u32,
        weight=positive_u32,
        definition=st.binary(min_size=8, max_size=8),
        dual_check=u32,
        score=st.none() | st.floats(-1e30, 1e30),
        want=u32,
    ),
    Offer: st.builds(Offer, content=contents),
    Want: st.builds(Want, have=st.none() | model_names, window=positive_u32),
    Need: st.builds(
        Need,
        digest=digests,
        ranges=st.lists(ranges, min_size=1, max_size=MAX_RANGES).map(tuple),
        step=st.none() | model_steps,
    ),
    Part: st.builds(Part, digest=digests, step=st.none() | model_steps, group=u32, part=parts),
    Group: st.builds(
        Group, content=contents, step=st.none() | model_steps, number=u32, missed=st.none() | parts
    ),
    Chunk: st.builds(Chunk, content=contents, offset=u32, step=st.none() | model_steps),
    Bye: st.builds(Bye, incarnation=claimed_incarnations),
    Status: st.builds(Status, online=st.booleans(), software=software),
    Welcome: st.builds(
        Welcome,
        epoch=epochs,
        incarnation=claimed_incarnations,
        dual_checksum=u64,
        dual=st.none() | contents,
        offer=model_offers,
    ),
    State: st.builds(
        State,
        epoch=epochs,
        incarnation=claimed_incarnations,
        last_seq=u32,
        last_digest=st.none() | u64,
        dual_checksum=u64,
        verdict=st.none() | verdicts,
        offer=st.none() | model_offers,
    ),
    Start: st.builds(
        Start,
        offer=model_offers,
        deadline_s=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    ),
    Manifest: st.builds(Manifest, offer=model_offers),
}
any_message = st.one_of(*MESSAGES.values())
