import pytest

from plantfed_shared.wording import counted


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 agents"), (1, "1 agent"), (2, "2 agents"), (1208, "1,208 agents")]
)
def test_a_number_has_its_noun_in_the_right_form(n: int, text: str) -> None:
    assert counted(n, "agent") == text
