import threading

from harness.data.documents import make_document
from harness.data.streams import cores, in_batches, map_in_order


def test_batches_hold_every_document_once_in_order(monkeypatch):
    monkeypatch.setattr("harness.data.streams.BATCH_BYTES", 100)
    documents = [make_document("g", "x" * (1 + 37 * k % 150)) for k in range(50)]
    batches = list(in_batches(documents))
    assert [document for batch in batches for document in batch] == documents
    assert all(sum(len(document.text) for document in batch[:-1]) < 100 for batch in batches)
    assert all(sum(len(document.text) for document in batch) >= 100 for batch in batches[:-1])
    assert list(in_batches([])) == []


def test_results_come_in_order_and_few_items_are_drawn_in_advance():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    threads = set()

    def square(number):
        threads.add(threading.current_thread())
        return number**2

    for place, result in enumerate(map_in_order(square, items())):
        assert result == place**2 and len(drawn) <= place + 2 + 2 * cores()
    assert threading.main_thread() not in threads
