"""A store that several principals share: each sees its own sessions, and no more."""

from __future__ import annotations

import pytest
from stores import KINDS, Place, place_fixture

from acp_server.storage.owned_store import OwnedStore
from acp_server.storage.store import Card, SessionBusy, SessionUnknown, Store

place = pytest.fixture(params=KINDS)(place_fixture)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


def test_a_session_is_there_for_its_owner_alone(store: Store) -> None:
    alice, bob = OwnedStore(store, "alice"), OwnedStore(store, "bob")
    log = alice.create(Card("a" * 32, "/src"), [{"kept": 0}])
    log.append({"kept": 1})
    log.sync(Card("a" * 32, "/src", title="mine"))  # a card that knows nothing of owners
    for _ in range(2):
        assert [card.title for card in alice.cards()] == ["mine"]
        assert bob.cards() == OwnedStore(store, "").cards() == []
        assert alice.read("a" * 32)[1] == [{"kept": 0}, {"kept": 1}]
        for stranger in (bob, OwnedStore(store, "")):
            for peek in (stranger.read, stranger.open):
                with pytest.raises(SessionUnknown):
                    peek("a" * 32)
            with pytest.raises(SessionUnknown):
                stranger.set_card(Card("a" * 32, "/src", title="stolen"))
            stranger.delete("a" * 32)
        with pytest.raises(SessionBusy):
            alice.open("a" * 32)
        log.close()
        _, _, log = alice.open("a" * 32)
        log.sync(Card("a" * 32, "/src", title="mine"))
    log.close()
    alice.set_card(Card("a" * 32, "/src", archived=True))
    assert alice.cards()[0].archived
    assert bob.cards() == []
    alice.delete("a" * 32)
    assert store.cards() == []


def test_the_nameless_principal_shares_the_sessions_of_this_machines_user(store: Store) -> None:
    store.create(Card("b" * 32, "/src")).close()
    assert [card.id for card in OwnedStore(store, "").cards()] == ["b" * 32]
    assert OwnedStore(store, "alice").cards() == []
