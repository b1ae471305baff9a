import threading
from dataclasses import replace

import pytest

from features.errors import ContractError
from models.bundle import point_to, rollback
from monitoring.metrics import Metrics
from serving.current import CurrentBundle, warm_up
from tests.serving.conftest import running, runtime, shop_parts, until


def answering(client) -> str:
    answer = client.post("/v1/recommendations", json={"user_id": "ann"})
    assert answer.status_code == 200
    return answer.json()["bundle"]


def test_a_new_bundle_answers_without_a_restart(shop):
    with running(shop) as client:
        first = answering(client)
        second = shop.promote(shop_parts(seed=8))
        assert first != second
        until(lambda: answering(client) == second, timeout_s=10)
        assert rollback(shop.workspace.bundles) == first
        until(lambda: answering(client) == first, timeout_s=10)


def test_requests_during_swaps_are_all_answered_from_one_bundle_each(shop):
    a, b = answering_ids(shop)
    seen: list[str] = []
    with running(shop) as client:
        swapping = threading.Event()

        def swap() -> None:
            for _ in range(10):
                point_to(shop.workspace.bundles, b)
                runtime(client).current.refresh()
                point_to(shop.workspace.bundles, a)
                runtime(client).current.refresh()
            swapping.set()

        thread = threading.Thread(target=swap)
        thread.start()
        while not swapping.is_set():
            answer = client.post("/v1/recommendations", json={"user_id": "ann", "k": 60}).json()
            assert (answer["rung"], len(answer["items"])) == (0, 60)
            seen.append(answer["bundle"])
        thread.join()
    assert set(seen) <= {a, b}


def answering_ids(shop) -> tuple[str, str]:
    first = CurrentBundle(shop.workspace.bundles, Metrics())
    first.refresh()
    assert first.bundle is not None
    return first.bundle.id, shop.promote(shop_parts(seed=8))


def test_a_broken_bundle_is_refused_once_and_the_old_one_goes_on(shop):
    metrics = Metrics()
    current = CurrentBundle(shop.workspace.bundles, metrics)
    assert current.refresh()
    good = current.bundle
    bad = shop.promote(shop_parts(seed=8))
    path = shop.workspace.bundles / "versions" / bad / "popular.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for _ in range(3):
        assert not current.refresh()
    assert current.bundle is good
    assert "popular.npy" in current.reason
    assert metrics.registry.get_sample_value("shortlist_bundles_refused_total") == 1
    third = shop.promote(shop_parts(seed=9))
    assert current.refresh()
    assert current.bundle is not None
    assert (current.bundle.id, current.reason) == (third, "")


def test_a_damaged_pointer_changes_nothing(shop):
    current = CurrentBundle(shop.workspace.bundles, Metrics())
    current.refresh()
    good = current.bundle
    (shop.workspace.bundles / "current").write_text("{")
    assert not current.refresh()
    assert current.bundle is good
    assert "not a pointer" in current.reason


def test_a_bundle_that_loads_but_cannot_answer_is_refused(shop):
    current = CurrentBundle(shop.workspace.bundles, Metrics())
    current.refresh()
    assert current.bundle is not None
    with pytest.raises(ContractError, match=r"loads but cannot answer .*; roll back"):
        warm_up(replace(current.bundle, item_vectors=current.bundle.item_vectors[:1]))
