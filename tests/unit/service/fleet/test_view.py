from service.fleet.reports import ReplicaReport
from service.fleet.view import FleetView, Member, Standing


def members(*names: str) -> dict[str, Member]:
    return {name: Member(name, ReplicaReport()) for name in names}


def view_of_a() -> tuple[FleetView, list[str]]:
    heard: list[str] = []
    return FleetView("a", lambda: heard.append("dismissed")), heard


def test_a_replica_that_is_not_listed_yet_is_not_dismissed() -> None:
    view, heard = view_of_a()

    view.update(members("b"))

    assert (view.standing, heard) == (Standing.AWAITED, [])


def test_a_replica_that_is_listed_is_a_member() -> None:
    view, heard = view_of_a()

    view.update(members("a", "b"))

    assert (view.standing, heard) == (Standing.MEMBER, [])


def test_a_replica_that_was_listed_and_is_no_more_is_dismissed_once() -> None:
    view, heard = view_of_a()
    view.update(members("a", "b"))

    view.update(members("b"))
    view.update(members())

    assert (view.standing, heard) == (Standing.DISMISSED, ["dismissed"])


def test_a_dismissed_replica_does_not_come_back() -> None:
    view, heard = view_of_a()
    view.update(members("a"))
    view.update(members())

    view.update(members("a"))

    assert (view.standing, heard) == (Standing.DISMISSED, ["dismissed"])
