"""G15: whatever a hostile URL tries, nothing connects to a private socket that listens."""

import socket
import ssl
import threading

import pytest

from app.webhooks.sending import MAX_ANSWER_BYTES, Sender, resolve
from tests.support.webhook_receiver import receiving

PUBLIC = "93.184.216.34"


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


@pytest.fixture
def connections(monkeypatch):
    """Every address that anything connects to."""
    made = []
    real = socket.create_connection

    def noted(address, *args, **kwargs):
        made.append(address)
        if not str(address[0]).startswith(("127.", "::1")):
            raise ConnectionRefusedError("the test has no outside")
        return real(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", noted)
    return made


HOSTS = [
    # Loopback and the metadata service in every spelling that some parser or resolver reads as an address.
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0", "0.0.0.1", "2130706433", "017700000001", "0177.0.0.1",
    "0x7f000001", "0x7f.0.0.1", "0x7f.1", "127.0.0.0x1", "0177.0x0.0.1", "127.000.000.001", "00000177.0.0.1",
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "169.254.43518",
    "425.510.425.510", "999999999999", "127.0.0.1.nip.io.", "1.1.1.1.", "127.0.0.257", "127.0.0.-1",
    # Private and special IPv4.
    "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "192.0.2.5", "198.18.0.1", "203.0.113.7", "224.0.0.1",
    "240.0.0.1", "255.255.255.255",
    # IPv6, mapped, compatible, translated, tunnelled, scoped.
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]",
    "[::1", "::1", "[v1.127.0.0.1]", "[::ffff:0:127.0.0.1]",
    # Names.
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "intranet", "db.internal", "printer.local", "example.com.",
    "-a.example.com", "a..example.com", "example.com:0", "example.com:65536", "example.com:99999999", "example.com:",
]  # fmt: skip
URLS = [
    # User, password, and parsers that disagree.
    "https://example.com@127.0.0.1:{port}/", "https://user:pass@127.0.0.1:{port}/", "https://127.0.0.1:{port}@example.com/",
    "https://example.com\\@127.0.0.1:{port}/", "https://127.0.0.1:{port}\\@example.com/", "https:\\\\127.0.0.1:{port}/",
    "https://example.com#@127.0.0.1:{port}/", "https://127.0.0.1:{port}#.example.com/", "https:///127.0.0.1:{port}/",
    "https:/127.0.0.1:{port}/", "https:127.0.0.1:{port}/", "//127.0.0.1:{port}/", "127.0.0.1:{port}/",
    "https://127.0.0.1:{port}%2f@example.com/", "https://%31%32%37.0.0.1:{port}/", "https://127。0。0。1:{port}/",
    "https://①②⑦.⓪.⓪.①:{port}/", "https://ⓛocalhost:{port}/", "https://127.0.0.1 :{port}/", " https://127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/\r\nHost: example.com", "https://127.0.0.1:{port}/\t", "https://example.com/\r\nX: y",
    "https://exa\u00admple.com@127.0.0.1:{port}/", "https://127.0.0.1\x00.example.com:{port}/",
    # Other schemes.
    "http://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}/", "file:///etc/passwd", "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x", "dict://127.0.0.1:{port}/", "ldap://127.0.0.1:{port}/", "javascript:alert(1)",
    "data:text/plain,x", "unix:///run/x.sock", "http+unix://%2Frun%2Fx.sock/", "jar:https://127.0.0.1:{port}!/", "",
    "https://", "https://:{port}/", "https://?", "https://" + "a" * 3000 + ".com/",
]  # fmt: skip


def hostile(port):
    ported = [f"https://{host}{'' if host.rpartition(']')[2].count(':') else f':{port}'}/hook" for host in HOSTS]
    return ported + [url.replace("{port}", str(port)) for url in URLS]


def test_no_hostile_url_reaches_a_socket_that_listens(receiver, connections):
    urls = hostile(receiver.port)
    assert len(set(urls)) >= 110
    # The worst resolver: every name is the receiver's.
    sender = Sender(frozenset(), resolver=lambda _host, _port: ["127.0.0.1"])
    outcomes = {url: sender.post(url, b"{}", {}) for url in urls}
    assert connections == []
    assert receiver.received == []
    assert {outcome.status_code for outcome in outcomes.values()} == {None}
    assert all(outcome.fault.startswith("The URL cannot be used") for outcome in outcomes.values())


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"],
        [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "fe80::1%lo"], [],
    ],
)  # fmt: skip
def test_a_name_with_one_private_address_is_not_connected_to(addresses, connections):
    outcome = Sender(frozenset(), resolver=lambda *_: addresses).post("https://evil.example.com/", b"{}", {})
    assert connections == []
    assert outcome.status_code is None


def test_a_name_that_changes_its_address_is_resolved_once_and_connected_to_as_checked(receiver, connections):
    """Rebinding: public when checked, loopback when asked again."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return next(answers)

    Sender(frozenset(), resolver=rebinding).post(f"https://evil.example.com:{receiver.port}/", b"{}", {})
    assert asked == ["evil.example.com"]
    assert connections == [(PUBLIC, receiver.port)]
    assert receiver.received == []


def test_a_redirect_is_not_followed(receiver):
    with receiving() as secret:
        receiver.statuses, receiver.location = [307], secret.url
        outcome = Sender(frozenset({f"127.0.0.1:{receiver.port}"})).post(receiver.url, b"{}", {})
        assert outcome.status_code == 307
        assert secret.received == []


def test_proxies_of_the_environment_are_not_used(receiver, monkeypatch):
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        outcome = Sender(frozenset({"127.0.0.1"})).post(receiver.url, b"{}", {})
        assert outcome.status_code == 204
        assert proxy.received == []


def test_what_is_sent_is_what_was_signed(receiver):
    outcome = Sender(frozenset({"127.0.0.1"})).post(f"{receiver.url}?a=1", b'{"x":1}', {"webhook-id": "evt_1"})
    assert outcome.status_code == 204
    [got] = receiver.received
    assert (got.path, got.body, got.headers["webhook-id"]) == ("/hook?a=1", b'{"x":1}', "evt_1")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"


def test_an_answer_that_never_ends_is_cut(receiver):
    receiver.answer = b"x" * (50 * MAX_ANSWER_BYTES)
    assert Sender(frozenset({"127.0.0.1"})).post(receiver.url, b"{}", {}).status_code == 204


@pytest.mark.parametrize("drips", [b"", b"H", b"HTTP/1.1 200 OK\r\nx: "])
def test_one_deadline_holds_for_a_server_that_is_silent_or_drips(drips):
    with socket.create_server(("127.0.0.1", 0)) as server:
        stopped = threading.Event()

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(drips)
                while not stopped.wait(0.05):
                    try:
                        connection.sendall(b"y" if drips else b"")
                    except OSError:
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        sender = Sender(frozenset({"127.0.0.1"}), timeout_seconds=0.4)
        outcome = sender.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {})
        stopped.set()
        thread.join(5)
    assert outcome.status_code is None
    assert outcome.fault == "No answer within 0.4 s."
    assert outcome.took_seconds < 2


def test_a_certificate_of_somebody_else_is_not_trusted(receiver):
    """The receiver speaks no TLS at all: the failure is named as one of TLS, and nothing was said to it."""
    outcome = Sender(frozenset({"127.0.0.1"})).post(receiver.url.replace("http:", "https:"), b"{}", {})
    assert outcome.status_code is None
    assert "TLS" in (outcome.fault or "")
    assert receiver.received == []


def test_the_name_of_the_url_is_asked_for_in_tls_and_in_the_host_header(monkeypatch):
    names = []
    context = ssl.create_default_context()
    real = context.wrap_socket

    def noted(sock, *, server_hostname):
        names.append(server_hostname)
        return real(sock, server_hostname=server_hostname)

    monkeypatch.setattr(context, "wrap_socket", noted, raising=False)
    with receiving() as receiver:
        sender = Sender(frozenset({"hooks.example.com"}), resolver=lambda *_: ["127.0.0.1"], ssl_context=context)
        sender.post(f"https://hooks.example.com:{receiver.port}/", b"{}", {})
    assert names == ["hooks.example.com"]


def test_nobody_listening_is_an_outcome_not_an_exception():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = Sender(frozenset({"127.0.0.1"})).post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert (outcome.status_code, outcome.fault) == (None, "No connection.")


def test_the_systems_resolver_gives_addresses_and_none_for_an_unknown_name():
    assert set(resolve("localhost", 80)) <= {"127.0.0.1", "::1"}
    assert resolve("localhost", 80)
    assert resolve("a..b", 80) == ()
