"""ID tokens of a provider that lies, errs or changes its keys: none opens a session, and honest ones go on working."""

import warnings
from datetime import timedelta

import pytest
from joserfc import jwk, jwt

from app.login.id_token import BadToken, Expected, UnknownKey, verified_claims

EXPECTED = Expected("https://id.example.com", "us", "n-1")
NOW = 1_800_000_000
HONEST = {"iss": EXPECTED.issuer, "aud": "us", "sub": "s", "nonce": "n-1", "iat": NOW, "exp": NOW + 60}
KEY = jwk.generate_key("RSA", 2048, {"kid": "a"})
PUBLIC = KEY.as_dict(private=False)


def signed(claims):
    return jwt.encode({"alg": "RS256", "kid": "a"}, claims, KEY)


@pytest.fixture
def invited(house):
    house.add_member()
    return house


def refused(house):
    """Tries to log in; the reason that the audit log gives."""
    answer = house.browser.log_in()
    assert answer.status_code == 403, answer.text
    assert "does not prove who you are" in answer.text
    assert house.client.get("/v1/auth/session").status_code == 401
    return house.audited("login.failed")[0]["data"]["reason"]


def test_a_token_of_another_log_in_or_issuer_opens_no_session(invited, provider):
    provider.claims = {"nonce": "of another log-in"}
    assert "another log-in" in refused(invited)
    provider.claims = {"iss": "https://other.example.com"}
    assert "another issuer" in refused(invited)
    provider.claims = {"exp": 1_000}
    assert "expired" in refused(invited)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "n-2"}, "another log-in"),
        ({"nonce": None}, "another log-in"),
        ({"iss": "https://id.example.com/"}, "another issuer"),
        ({"aud": "another client"}, "another client"),
        ({"aud": None}, "another client"),
        ({"aud": ["us", "another"]}, "another client"),
        ({"azp": "another"}, "another client"),
        ({"exp": 1_000}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "tomorrow"}, "expired"),
        ({"exp": True}, "expired"),
        ({"iat": 9_999_999_999}, "future"),
        ({"iat": None}, "future"),
        ({"nbf": 9_999_999_999}, "not valid yet"),
        ({"nbf": "soon"}, "not valid yet"),
        ({"sub": None}, "nobody"),
        ({"sub": ""}, "nobody"),
        ({"sub": "x" * 256}, "nobody"),
        ({"sub": 7}, "nobody"),
    ],
)
def test_a_token_must_say_who_for_whom_when_and_for_which_log_in(claims, why):
    token = signed({name: value for name, value in {**HONEST, **claims}.items() if value is not None})
    with pytest.raises(BadToken, match=why):
        verified_claims(token, [PUBLIC], EXPECTED, now=NOW)


def test_a_token_for_several_clients_is_taken_if_it_was_given_to_us():
    claims = verified_claims(signed({**HONEST, "aud": ["us", "them"], "azp": "us"}), [PUBLIC], EXPECTED, now=NOW)
    assert claims["sub"] == "s"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512"])
def test_a_token_without_a_signature_or_with_one_that_anybody_can_make_is_refused(invited, provider, algorithm):
    provider.algorithm = algorithm
    assert "proves nothing here" in refused(invited)


def test_a_token_that_another_key_signed_under_the_same_name_is_refused(invited, provider):
    provider.publishes = list(provider.keys)
    provider.keys = [jwk.generate_key("RSA", 2048, {"kid": "first"})]
    assert "signature does not hold" in refused(invited)


def test_a_new_key_of_the_provider_is_asked_for_once(invited, provider, monkeypatch):
    assert invited.browser.log_in().status_code == 303
    at_first = provider.asked.count("/keys")
    assert invited.browser.log_in().status_code == 303
    assert provider.asked.count("/keys") == at_first == 1
    provider.rotate()
    later(invited, monkeypatch, seconds=31)
    assert invited.browser.log_in().status_code == 303
    assert provider.asked.count("/keys") == 2


def test_an_unknown_key_makes_us_ask_now_and_then_only(invited, provider, monkeypatch):
    provider.publishes = list(provider.keys)
    provider.rotate()
    for _ in range(3):
        assert "not among the provider's" in refused(invited)
    # Just asked for: the first token found the answer a moment old.
    assert provider.asked.count("/keys") == 1
    later(invited, monkeypatch, seconds=31)
    for _ in range(3):
        assert "not among the provider's" in refused(invited)
    assert provider.asked.count("/keys") == 2


def later(house, monkeypatch, *, seconds):
    """The provider's part of the service lives in a later time."""
    clock = house.client.app.state.openid._clock
    now = clock.now()
    monkeypatch.setattr(
        house.client.app.state.openid,
        "_clock",
        type("Later", (), {"now": lambda _: now + timedelta(seconds=seconds)})(),
    )


def test_elliptic_keys_and_probabilistic_signatures_are_taken(invited, provider):
    provider.algorithm = "PS256"
    assert invited.browser.log_in().status_code == 303
    provider.publishes = None
    provider.algorithm, provider.keys = "ES256", [*provider.keys, jwk.generate_key("EC", "P-256", {"kid": "curve"})][1:]
    invited.client.app.state.openid._kept.clear()
    assert invited.browser.log_in().status_code == 303


def test_an_answer_that_another_provider_sent_is_refused_before_its_code_is_used(invited, provider):
    back = provider.log_in(invited.browser.begin()).replace("iss=", "iss=http%3A%2F%2Fevil")
    assert invited.browser.come_back(back).status_code == 400
    assert "/token" not in provider.asked
    assert invited.audited("login.failed") == []


def test_a_provider_that_names_itself_must_do_so(invited, provider):
    provider.description = {"authorization_response_iss_parameter_supported": True}
    back = provider.log_in(invited.browser.begin()).partition("&iss=")[0]
    assert invited.browser.come_back(back).status_code == 400
    assert "/token" not in provider.asked


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://other.example.com"},
        {"authorization_endpoint": "ftp://127.0.0.1/x"},
        {"token_endpoint": None},
    ],
)
def test_a_description_of_another_provider_or_with_unusable_addresses_is_refused(house, provider, description):
    provider.description = description
    answer = house.client.get("/v1/auth/login", follow_redirects=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "login_provider_unavailable")


def test_a_key_for_something_else_and_an_ambiguous_one_prove_nothing():
    token = signed(HONEST)
    assert verified_claims(token, [PUBLIC], EXPECTED, now=NOW)["sub"] == "s"
    for other in ({"use": "enc"}, {"alg": "RS512"}, {"kid": "b"}, {"kty": "EC"}):
        with pytest.raises(UnknownKey):
            verified_claims(token, [{**PUBLIC, **other}], EXPECTED, now=NOW)
    unnamed = jwt.encode({"alg": "RS256"}, HONEST, KEY)
    assert verified_claims(unnamed, [PUBLIC], EXPECTED, now=NOW)["sub"] == "s"
    with pytest.raises(BadToken, match="which of several"):
        verified_claims(unnamed, [PUBLIC, {**PUBLIC, "kid": "b"}], EXPECTED, now=NOW)
    with pytest.raises(BadToken, match="cannot be read"):
        verified_claims(token, [{"kty": "RSA", "kid": "a"}], EXPECTED, now=NOW)


def test_a_key_that_is_too_short_proves_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = jwk.generate_key("RSA", 1024, {"kid": "a"})
        token = jwt.encode({"alg": "RS256", "kid": "a"}, HONEST, short)
        with pytest.raises(BadToken, match="too short"):
            verified_claims(token, [short.as_dict(private=False)], EXPECTED, now=NOW)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "ä.b.c", "a.b.c.d.e", "x" * 70_000])
def test_what_is_no_token_proves_nothing(text):
    with pytest.raises(BadToken, match="no signed token"):
        verified_claims(text, [PUBLIC], EXPECTED, now=NOW)


def test_clocks_may_differ_by_a_minute():
    token = signed(HONEST)
    assert verified_claims(token, [PUBLIC], EXPECTED, now=NOW + 119)["sub"] == "s"
    assert verified_claims(token, [PUBLIC], EXPECTED, now=NOW - 59)["sub"] == "s"
    for now in (NOW + 121, NOW - 61):
        with pytest.raises(BadToken):
            verified_claims(token, [PUBLIC], EXPECTED, now=now)
