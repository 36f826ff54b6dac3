from hypothesis import given
from hypothesis import strategies as st

from service.fleet.reports import ReplicaReport
from service.fleet.servers import Server, changes, read_servers
from service.fleet.view import Member

ANSWER = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act
fleet,6swe03mb,0,0,7,9,,40,1,2,,0,,0,0,0,0,UP,128,1
fleet,8li71qid,0,0,0,3,,12,1,2,,0,,0,0,0,0,DRAIN,0,0

"""


def member(name: str, *, address: str | None = "127.0.0.1:4000", **report: float) -> Member:
    return Member(name, ReplicaReport.from_stats(report), None, address)


def test_the_answer_of_haproxy_is_read() -> None:
    assert read_servers(ANSWER) == {"6swe03mb": Server(7, 128), "8li71qid": Server(0, 0)}


def test_without_servers_the_answer_holds_none() -> None:
    assert read_servers(ANSWER.splitlines()[0] + "\n\n") == {}


def test_a_new_replica_is_added_watched_and_opened() -> None:
    add, *rest = changes({}, {"a": member("a")})

    assert add.startswith("add server fleet/a 127.0.0.1:4000 check ")
    assert add.endswith(" weight 256")
    assert "on-marked-down shutdown-sessions" in add
    assert rest == ["enable health fleet/a", "enable server fleet/a"]


def test_a_replica_that_has_not_said_where_it_is_is_not_added() -> None:
    assert changes({}, {"a": member("a", address=None)}) == []


def test_nothing_is_said_where_nothing_changed() -> None:
    assert changes({"a": Server(3, 256)}, {"a": member("a", weight=3, streams=3)}) == []


def test_a_weight_that_changed_is_told() -> None:
    known = {"a": Server(4, 256), "b": Server(4, 256)}
    members = {
        "a": member("a", weight=4, streams=4),
        "b": member("b", weight=1.5, streams=4),
    }

    assert changes(known, members) == ["set server fleet/a weight 128"]


def test_who_is_dismissed_gets_nobody_and_keeps_who_is_there() -> None:
    assert changes({"a": Server(2, 256)}, {}) == ["set server fleet/a weight 0"]
    assert changes({"a": Server(2, 0)}, {}) == []


def test_who_is_dismissed_is_forgotten_once_all_have_left() -> None:
    assert changes({"a": Server(0, 0)}, {}) == [
        "set server fleet/a state maint",
        "del server fleet/a",
    ]


names = st.text("abc", min_size=1, max_size=2)


@given(
    st.dictionaries(names, st.tuples(st.integers(0, 3), st.integers(0, 256)), max_size=5),
    st.dictionaries(names, st.booleans(), max_size=5),
)
def test_afterwards_the_servers_are_the_members_and_who_still_has_connections(
    known: dict[str, tuple[int, int]], running: dict[str, bool]
) -> None:
    servers = {name: Server(*one) for name, one in known.items()}
    members = {name: member(name, open=is_open) for name, is_open in running.items()}
    weights = {name: one.weight for name, one in servers.items()}

    for command in changes(servers, members):
        verb, _, server, *words = command.split()
        name = server.removeprefix("fleet/")
        if verb == "add":
            assert name not in weights
            weights[name] = int(words[-1])
        elif verb == "del":
            assert not servers[name].connections  # HAProxy would refuse
            del weights[name]
        elif words[:1] == ["weight"]:
            weights[name] = int(words[-1])

    staying = {name for name, one in servers.items() if one.connections}
    assert weights.keys() == members.keys() | staying - members.keys()
    assert not any(weights[name] for name in staying - members.keys())
    assert changes({name: Server(1, one) for name, one in weights.items()}, members) == []
