from tests import given
from tests.conftest import Record
def test_a(record: Record) -> None:
    record(given.register())
    p = record(given.penalty())
    record(given.complaint()); record(given.breach()); record(given.reward()); record(given.contract()); record(given.inspection()); record(given.listing())
    record(given.suspend(p.id))
