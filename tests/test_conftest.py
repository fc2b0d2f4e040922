"""How the tests are shared between processes: the heaviest files first, each kept together."""

from tests.conftest import SLOW, SOLVES, _group, heaviest_first


class Item:
    def __init__(self, nodeid, slow=False):
        self.nodeid, self.slow = nodeid, slow

    def get_closest_marker(self, name):
        return name == "slow" and self.slow


def test_the_heaviest_files_come_first_and_keep_their_order():
    light = [Item(f"tests/test_dense.py::t{k}") for k in range(SLOW - 2)]
    heavy = [Item("tests/test_reference.py::t0", slow=True), Item("tests/test_reference.py::t1")]
    items = [*light, *heavy]
    heaviest_first(items)
    assert items == [*heavy, *light]


def test_tests_that_share_solves_are_one_group():
    assert _group("tests/backends/test_nfe.py") == _group("tests/backends/test_norms.py") == SOLVES
    assert _group("tests/test_dense.py") == "tests/test_dense.py"
