"""Certificates from an ACME authority by HTTP-01 (RFC 8555), the answers given by the edge itself.

The authority asks `http://NAME/.well-known/acme-challenge/TOKEN` of whichever proxy the name leads to. So the
answers go to every proxy first, through xDS like all else (a direct response ahead of the redirect), and only
when `publish` returns, all of them acknowledged, is the authority told to look.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from acme import challenges, client, errors, messages
from acme.crypto_util import make_csr
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwa import ES256
from josepy.jwk import JWKEC

ORDER_TIMEOUT = dt.timedelta(seconds=180)
USER_AGENT = "marchproxy"
NONCE_ATTEMPTS = 10

Challenges = Mapping[str, bytes]
"""Token -> key authorization: what each proxy answers for a pending order."""


class AcmeError(Exception):
    """The authority gave no certificate; the words name it and what it said."""


@dataclass(frozen=True)
class Authority:
    """Where to order and as whom. `key` is the account's PEM private key, made once and kept."""

    directory: str
    key: bytes = field(repr=False)
    contact: str | None = None
    ca_bundle: Path | None = None


class _Network(client.ClientNetwork):
    """Asks again while the authority takes no nonce (RFC 8555 section 6.5); the library does so once.

    A refusal carries the next nonce. Some authorities refuse now and then on purpose, others forget nonces
    when they restart or are asked by way of several hosts.
    """

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_ATTEMPTS - 1):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)


def new_account_key() -> bytes:
    """PEM key of a new account: P-256, which every ACME server signs with."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def obtain(
    authority: Authority, *, key: bytes, names: Sequence[str], publish: Callable[[Challenges], None]
) -> bytes:
    """PEM chain for `key` (PEM) and `names`; blocks until issued, so run it in a thread.

    `publish` is called with the answers and returns once every proxy gives them; it is called again with none
    when the order is over, however it ended. Raises AcmeError.
    """
    try:
        acme = _client(authority)
        order = acme.new_order(make_csr(key, list(names)))
        answers, pending = _http_challenges(order, acme.net.key)
        publish(answers)
        try:
            for challenge, response in pending:
                acme.answer_challenge(challenge, response)
            # The library's clock is naive local time.
            final = acme.poll_and_finalize(order, dt.datetime.now() + ORDER_TIMEOUT)
        finally:
            publish({})
    except (errors.Error, messages.Error, requests.RequestException, ValueError) as error:
        raise AcmeError(f"{authority.directory}: {_words(error)}") from error
    chain = final.fullchain_pem.encode()
    _check(chain, key, authority)
    return bytes(chain)


def _client(authority: Authority) -> Any:
    private = serialization.load_pem_private_key(authority.key, password=None)
    account_key = JWKEC(key=private)
    verify: Any = str(authority.ca_bundle) if authority.ca_bundle is not None else True
    net = _Network(account_key, alg=ES256, verify_ssl=verify, user_agent=USER_AGENT)
    acme = client.ClientV2(client.ClientV2.get_directory(authority.directory, net), net=net)
    registration = messages.NewRegistration.from_data(email=authority.contact, terms_of_service_agreed=True)
    try:
        acme.new_account(registration)
    except errors.ConflictError as known:
        # The account of this key exists: the location is all the library needs to go on as it.
        existing = messages.RegistrationResource(uri=known.location, body=messages.Registration())
        net.account = acme.query_registration(existing)
    return acme


def _http_challenges(order: Any, key: Any) -> tuple[dict[str, bytes], list[tuple[Any, Any]]]:
    answers: dict[str, bytes] = {}
    pending = []
    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        name = authorization.body.identifier.value
        http = [c for c in authorization.body.challenges if isinstance(c.chall, challenges.HTTP01)]
        if not http:
            raise ValueError(
                f"the authority offers no HTTP-01 challenge for {name} (a wildcard needs DNS-01)"
            )
        response, validation = http[0].response_and_validation(key)
        answers[http[0].chall.encode("token")] = validation.encode()
        pending.append((http[0], response))
    return answers, pending


def _check(chain: bytes, key: bytes, authority: Authority) -> None:
    leaf = x509.load_pem_x509_certificates(chain)[0]
    if leaf.public_key() != serialization.load_pem_private_key(key, password=None).public_key():
        raise AcmeError(f"{authority.directory}: issued for another key than was asked for")


def _words(error: Exception) -> str:
    """What the authority said, without the library's wrapping."""
    if isinstance(error, errors.ValidationError):
        said = []
        for authorization in error.failed_authzrs:
            for challenge in authorization.body.challenges:
                if challenge.error is not None:
                    said.append(f"{authorization.body.identifier.value}: {challenge.error.detail}")
        return "; ".join(said) or "the authority could not validate the names"
    if isinstance(error, errors.TimeoutError):
        return f"no answer within {ORDER_TIMEOUT.seconds} s"
    with contextlib.suppress(AttributeError):
        return str(error.detail)  # type: ignore[attr-defined]
    return str(error)
