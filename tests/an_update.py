"""An UPDATE where it matters only that it is one."""

from plantfed_shared.messages import Epoch, ModelName, Update

UPDATE = Update(
    base=ModelName(Epoch(3, 2**64 - 1), 1, 2),
    incarnation=2,
    seq=18,
    weight=1,
    definition=bytes(8),
    dual_check=0,
    score=None,
    want=0,
    others=0,
)
