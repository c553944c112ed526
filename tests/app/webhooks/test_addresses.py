"""Which URLs and addresses a webhook may have."""

import pytest

from app.webhooks.addresses import BadTarget, Target, allowed_hosts, is_public, parse_target


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.com", ("https", "example.com", 443, "/")),
        ("https://Example.COM/hook?x=1&y=a%20b", ("https", "example.com", 443, "/hook?x=1&y=a%20b")),
        ("https://hooks.example.co.uk:8443/", ("https", "hooks.example.co.uk", 8443, "/")),
        ("https://xn--bcher-kva.example/a", ("https", "xn--bcher-kva.example", 443, "/a")),
        ("https://8.8.8.8/", ("https", "8.8.8.8", 443, "/")),
        ("https://[2606:4700::1111]:444/x", ("https", "2606:4700::1111", 444, "/x")),
    ],
)
def test_a_plain_public_url_is_read_into_its_parts(url, parts):
    assert parse_target(url) == Target(*parts)


def test_the_host_header_is_that_of_the_url():
    assert parse_target("https://example.com/").host_header == "example.com"
    assert parse_target("https://example.com:8443/").host_header == "example.com:8443"
    assert parse_target("https://[2606:4700::1111]/").host_header == "[2606:4700::1111]"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.1", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
        "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
        "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1",
        "ff02::1", "not an address", "", "127.1", "0x7f000001",
    ],
)  # fmt: skip
def test_an_address_that_is_not_global_or_carries_another_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_a_global_address_is_public(address):
    assert is_public(address)


def test_the_operators_hosts_may_be_private_and_plain_http():
    allowed = allowed_hosts(" localhost:8123 , hooks.internal ,10.0.0.5:80,")
    assert allowed == {"localhost:8123", "hooks.internal", "10.0.0.5:80"}
    assert parse_target("http://localhost:8123/x", allowed).port == 8123
    assert parse_target("http://hooks.internal:9999/x", allowed).port == 9999
    assert parse_target("http://10.0.0.5/x", allowed).host == "10.0.0.5"
    for url in ("http://localhost:8124/", "http://localhost/", "http://10.0.0.5:81/", "http://a.hooks.internal/"):
        with pytest.raises(BadTarget):
            parse_target(url, allowed)


def test_a_refusal_says_why():
    with pytest.raises(BadTarget, match="only https"):
        parse_target("http://example.com/")
    with pytest.raises(BadTarget, match="not a public one"):
        parse_target("https://10.0.0.1/")
    with pytest.raises(BadTarget, match="full name"):
        parse_target("https://intranet/")
