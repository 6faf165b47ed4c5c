"""Which certificate a client gets, by the name it asks for; and what belongs to the listener whatever the name."""

from __future__ import annotations

import ssl

import pytest

from support.certificates import Certificates, make_certificates
from support.shaking import V12, V13, anyone, serial_of, shake_in_memory
from vsproxy.config.tls import TlsConfig
from vsproxy.tls import CertificateTable
from vsproxy.tls_front import Front, make_tls
from vsproxy.tls_pair import read_pair


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificates]:
    """Certificates by what they are for."""
    base = tmp_path_factory.mktemp("certificates")

    def make(place: str, *names: str, rsa: bool = False) -> Certificates:
        return make_certificates(base / place, *names, only=True, rsa=rsa)

    return {
        "default": make("default", "default.example"),
        "exact": make("exact", "www.shop.example", "shop.example"),
        "wild": make("wild", "*.shop.example"),
        "rsa": make("rsa", "shop.example", "www.shop.example", rsa=True),
        "unnamed": make("unnamed", "10.0.0.1"),
        "default rsa": make("default-rsa", "default.example", "other.example", rsa=True),
        "second": make("second", "shop.example"),
    }


def config_of(made: dict[str, Certificates], *places: str, **settings: object) -> TlsConfig:
    first, *more = (made[place].settings for place in places)
    return TlsConfig.model_validate({**first, "certificates": more, **settings})


def serving(config: TlsConfig, front: Front | None = None) -> ssl.SSLContext:
    tls = make_tls(config, {files: read_pair(files) for files in config.pairs}, front)
    tls.front.use(tls.table)
    return tls.front.context


def place_of(made: dict[str, Certificates], serial: int | None) -> str:
    return {serial_of(one.cert.read_bytes()): place for place, one in made.items()}[serial or 0]


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("www.shop.example", "exact"),
        ("WWW.Shop.Example", "exact"),
        ("shop.example", "exact"),
        ("a.shop.example", "wild"),
        ("A.SHOP.example", "wild"),
        ("b.a.shop.example", "default"),
        ("default.example", "default"),
        ("elsewhere.example", "default"),
        ("example", "default"),
        (None, "default"),
    ],
)
def test_exact_then_wildcard_then_default(
    made: dict[str, Certificates], version: ssl.TLSVersion, name: str | None, place: str
) -> None:
    context = serving(config_of(made, "default", "wild", "exact", "unnamed"))
    assert place_of(made, shake_in_memory(context, anyone(version), name).serial) == place


@pytest.mark.parametrize(("name", "place"), [("shop.example.", "exact"), ("a.shop.example.", "wild"), (".", "default")])
def test_a_final_dot_says_nothing(made: dict[str, Certificates], name: str, place: str) -> None:
    """Clients of Python leave it out by themselves."""
    config = config_of(made, "default", "wild", "exact")
    table = CertificateTable(config, {files: read_pair(files) for files in config.pairs})
    plain = {"exact": "shop.example", "wild": "a.shop.example", "default": None}[place]
    assert table.find(name) is table.find(plain)
    assert len({table.find(one) for one in ("shop.example", "a.shop.example", None)}) == 3


def test_of_two_for_a_name_the_first_is_taken(made: dict[str, Certificates]) -> None:
    for places in (("default", "exact", "second"), ("default", "second", "exact")):
        shaken = shake_in_memory(serving(config_of(made, *places)), anyone(), "shop.example")
        assert place_of(made, shaken.serial) == places[1]


@pytest.mark.parametrize("places", [("default", "exact", "rsa"), ("default", "rsa", "exact")])
def test_of_two_kinds_a_client_gets_what_it_can_use(made: dict[str, Certificates], places: tuple[str, ...]) -> None:
    context = serving(config_of(made, *places))
    for ciphers, place in (("ECDHE+aRSA", "rsa"), ("ECDHE+aECDSA", "exact")):
        client = anyone(V12)
        client.set_ciphers(ciphers)
        assert place_of(made, shake_in_memory(context, client, "shop.example").serial) == place


def test_the_default_may_be_of_two_kinds(made: dict[str, Certificates]) -> None:
    context = serving(config_of(made, "default", "default rsa"))
    for name in (None, "default.example", "elsewhere.example"):
        for ciphers, place in (("ECDHE+aRSA", "default rsa"), ("ECDHE+aECDSA", "default")):
            client = anyone(V12)
            client.set_ciphers(ciphers)
            assert place_of(made, shake_in_memory(context, client, name).serial) == place


# What belongs to the listener


@pytest.mark.parametrize("name", [None, "shop.example"])
def test_settings_are_those_of_the_listener_for_every_name(made: dict[str, Certificates], name: str | None) -> None:
    """OpenSSL asks the front context for some of them and the chosen one for others."""
    places = ("default", "exact")
    context = serving(config_of(made, *places, min_version="1.3"))
    with pytest.raises(ssl.SSLError):
        shake_in_memory(context, anyone(V12), name)
    assert shake_in_memory(context, anyone(V13), name).serial
    context = serving(config_of(made, *places, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
    assert shake_in_memory(context, anyone(V12), name).cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"
    client = anyone(V12)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        shake_in_memory(context, client, name)
    client = anyone()
    client.set_alpn_protocols(["h2", "http/1.1"])
    for alpn in (["http/1.1"], ["h2", "http/1.1"], ["http/1.1", "h2"]):
        context = serving(config_of(made, *places, alpn=alpn))
        assert shake_in_memory(context, client, name).protocol == alpn[0]


@pytest.mark.parametrize("name", [None, "shop.example"])
@pytest.mark.parametrize("version", [V12, V13])
def test_who_demands_a_certificate_is_the_front(
    made: dict[str, Certificates], name: str | None, version: ssl.TLSVersion
) -> None:
    """A trap for whoever adds client certificates: what is asked of the chosen context alone is not asked at all."""
    config = config_of(made, "default", "exact")
    tls = make_tls(config, {files: read_pair(files) for files in config.pairs})
    tls.front.use(tls.table)
    tls.table.find(name).verify_mode = ssl.CERT_REQUIRED
    assert shake_in_memory(tls.front.context, anyone(version), name).serial
    tls.front.context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_in_memory(tls.front.context, anyone(version), name)


# Sessions


@pytest.mark.parametrize("version", [V12, V13])
def test_sessions_outlive_new_certificates_and_other_names(
    made: dict[str, Certificates], version: ssl.TLSVersion
) -> None:
    front, client = Front(), anyone(version)
    session = None
    # One certificate, another of its kind, one of another kind, several, and one again.
    turns = [("default",), ("second",), ("rsa",), ("default", "exact"), ("default", "exact", "rsa"), ("second",)]
    tls = None
    for turn, places in enumerate(turns):
        config = config_of(made, *places)
        tls = make_tls(config, {files: read_pair(files) for files in config.pairs}, front, tls)
        assert tls.front is front
        front.use(tls.table)
        fresh = shake_in_memory(front.context, anyone(version), "shop.example")
        wanted = {"exact", "rsa"} if "exact" in places else {places[0]}
        assert place_of(made, fresh.serial) in wanted, places
        resumed = shake_in_memory(front.context, client, "shop.example", session)
        assert resumed.resumed == (turn > 0)
        session = resumed.session


def test_one_certificate_needs_no_callback_also_when_it_is_renewed(made: dict[str, Certificates]) -> None:
    """It would be 2 % of a handshake."""
    front = Front()
    turns = ((("default",), False), (("second",), False), (("default", "exact"), True), (("exact",), False))
    for places, called in turns:
        serving(config_of(made, *places), front)
        assert (front.context.sni_callback is not None) == called, places
    # The one of the other kind cannot be taken out of a context.
    serving(config_of(made, "rsa"), front)
    assert front.context.sni_callback is not None


@pytest.mark.parametrize(
    "changed", [{"min_version": "1.3"}, {"ciphers": "ECDHE+AESGCM"}, {"alpn": ["http/1.1"]}], ids=str
)
def test_other_settings_take_another_front(made: dict[str, Certificates], changed: dict[str, object]) -> None:
    config = config_of(made, "default")
    pairs = {files: read_pair(files) for files in config.pairs}
    old = make_tls(config, pairs)
    new = make_tls(config_of(made, "default", **changed), pairs, None, old)
    assert new.front is not old.front
    old.front.use(old.table)
    new.front.use(new.table)
    client = anyone(V13)
    session = shake_in_memory(old.front.context, client, "a").session
    assert shake_in_memory(old.front.context, client, "a", session).resumed
    assert not shake_in_memory(new.front.context, client, "a", session).resumed


def test_nothing_in_use_changes_before_the_table_is_used(made: dict[str, Certificates]) -> None:
    config = config_of(made, "default")
    old = make_tls(config, {files: read_pair(files) for files in config.pairs})
    old.front.use(old.table)
    other = config_of(made, "second", "rsa")
    new = make_tls(other, {files: read_pair(files) for files in other.pairs}, None, old)
    assert place_of(made, shake_in_memory(old.front.context, anyone(), None).serial) == "default"
    new.front.use(new.table)
    assert place_of(made, shake_in_memory(old.front.context, anyone(), None).serial) == "second"


def test_what_has_not_changed_is_kept(made: dict[str, Certificates]) -> None:
    config = config_of(made, "default", "exact", "wild")
    pairs = {files: read_pair(files) for files in config.pairs}
    old = make_tls(config, pairs)
    assert make_tls(config, pairs, None, old) is old
    pairs[made["exact"].files] = read_pair(made["second"].files)
    new = make_tls(config, pairs, None, old)
    assert new.table.find("a.shop.example") is old.table.find("a.shop.example")
    assert new.table.find("shop.example") is not old.table.find("shop.example")
