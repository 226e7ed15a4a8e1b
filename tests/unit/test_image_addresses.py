"""From where an image may come: by the host's name, and by every address that the name leads to."""

from __future__ import annotations

import ipaddress

import pytest

from placet.errors import Fault
from placet.images.addresses import HostRules
from placet.images.places import place_of

ANY = HostRules()
LISTED = HostRules(("images.example.com", ".mirror.example.com", "192.0.2.7", "localhost"))


def allows(rules: HostRules, host: str, address: str) -> bool:
    try:
        rules.check_host("i", host)
        rules.check_address("i", host, ipaddress.ip_address(address))
    except Fault as fault:
        assert fault.code == "image-refused"
        assert host in str(fault)
        return False
    return True


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "198.18.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"],
)
def test_without_a_list_any_public_or_private_address_is_asked(address: str) -> None:
    assert allows(ANY, "host", address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::a9fe:a9fe",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "240.0.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:1234:5678::5601:5601",
    ],
)
@pytest.mark.parametrize("rules", [ANY, LISTED])
def test_some_addresses_are_never_asked_whatever_form_they_take(rules: HostRules, address: str) -> None:
    assert not allows(rules, "images.example.com", address)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("images.example.com", True),
        ("a.mirror.example.com", True),
        ("b.a.mirror.example.com", True),
        ("192.0.2.7", True),
        ("mirror.example.com", False),
        ("evilmirror.example.com", False),
        ("example.com", False),
        ("images.example.com.evil.org", False),
        ("192.0.2.8", False),
    ],
)
def test_a_list_means_whole_names_and_what_is_below_a_suffix(host: str, allowed: bool) -> None:
    assert allows(LISTED, host, "192.0.2.7") is allowed


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"])
def test_with_a_list_the_node_itself_is_asked_only_by_a_name_that_is_on_it(address: str) -> None:
    assert not allows(LISTED, "a.mirror.example.com", address)
    assert allows(LISTED, "localhost", address)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("HTTP://Images.Example.COM./a", "images.example.com", 80, "/a"),
        ("https://h:8443?x=ä b", "h", 8443, "/?x=%C3%A4%20b"),
        ("http://me:pw@[::1]:81/a%20b#frag", "::1", 81, "/a%20b"),
        ("http://good.example@evil.example/", "evil.example", 80, "/"),
        ("http://h/a\tb", "h", 80, "/ab"),
    ],
)
def test_a_url_is_taken_apart_once(url: str, host: str, port: int, target: str) -> None:
    place = place_of(url, "i")

    assert (place.host, place.port, place.target) == (host, port, target)


@pytest.mark.parametrize(
    "url",
    ["http://", "http://[::1", "https:///x", "http://h:99999/", "http://h:x/", "http://h:0/", "http://[fe80::1%25eth0]/",
     "http://ex ample/", "http://ünï.example/", "http://a%2eb/", "ftp://h/", "h/a"],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(Fault) as caught:
        place_of(url, "i")

    assert caught.value.code == "image-refused"
