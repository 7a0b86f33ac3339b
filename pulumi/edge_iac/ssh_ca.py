"""The site's SSH host authority: every host boots with a key that the authority has signed.

A host's key is derived from the authority's key and the host's name, and its certificate is written without
anything random, so that two runs of the program give the same bytes; else every `pulumi up` would replace
every host. (The `cryptography` package writes both forms with random parts.) Both go to the host through
cloud-init, marked secret in Pulumi's state.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

_KEY_TYPE = b"ssh-ed25519"
_CERTIFICATE_TYPE = b"ssh-ed25519-cert-v01@openssh.com"
_HOST_CERTIFICATE = 2
_FOREVER = 2**64 - 1
_BLOCK = 8


class NotAnAuthority(ValueError):
    """The key given for the host authority cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True, repr=False)
class HostKey:
    """What a host's sshd needs, each as the text of its file. `private` is secret."""

    private: str
    public: str
    certificate: str


def new_authority() -> str:
    """A new private key for the host authority of a site, in OpenSSH's form."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        .decode()
    )


def authority_public(authority: str) -> str:
    """'ssh-ed25519 AAAA...': what clients believe. Raises NotAnAuthority."""
    return _line(_KEY_TYPE, _public_blob(_public(_load(authority))))


def host_key(authority: str, *, site: str, host: str) -> HostKey:
    """Key and certificate of a host; the certificate names that host alone. Raises NotAnAuthority."""
    signer = _load(authority)
    key = Ed25519PrivateKey.from_private_bytes(_derived(signer, f"host {site}/{host}"))
    return HostKey(
        private=_private_file(key, comment=host),
        public=_line(_KEY_TYPE, _public_blob(_public(key))),
        certificate=_line(_CERTIFICATE_TYPE, _certificate(signer, key, host)),
    )


def _load(authority: str) -> Ed25519PrivateKey:
    fix = "make one with ssh-keygen -t ed25519 -N '' -f host-ca, and give the file that has no ending"
    try:
        key = load_ssh_private_key(authority.strip().encode() + b"\n", password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NotAnAuthority(f"it is not a private SSH key without a passphrase; {fix}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NotAnAuthority(f"it is not an Ed25519 key; {fix}")
    return key


def _seed(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _derived(signer: Ed25519PrivateKey, purpose: str) -> bytes:
    return HKDF(SHA256(), length=32, salt=b"edge ssh host key", info=purpose.encode()).derive(_seed(signer))


# The wire form of SSH (RFC 4251, section 5): a string is its length in four bytes, then itself.
def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _public_blob(public: bytes) -> bytes:
    return _string(_KEY_TYPE) + _string(public)


def _line(kind: bytes, blob: bytes) -> str:
    return f"{kind.decode()} {base64.b64encode(blob).decode()}"


def _certificate(signer: Ed25519PrivateKey, key: Ed25519PrivateKey, host: str) -> bytes:
    """OpenSSH's PROTOCOL.certkeys. The nonce guards hash collisions of signatures; derived serves as well."""
    nonce = hashlib.sha256(b"nonce" + _derived(signer, f"nonce {host}")).digest()
    body = b"".join(
        [
            _string(_CERTIFICATE_TYPE),
            _string(nonce),
            _string(_public(key)),
            struct.pack(">QI", 0, _HOST_CERTIFICATE),
            _string(host.encode()),
            _string(_string(host.encode())),
            struct.pack(">QQ", 0, _FOREVER),
            _string(b""),
            _string(b""),
            _string(b""),
            _string(_public_blob(_public(signer))),
        ]
    )
    return body + _string(_string(_KEY_TYPE) + _string(signer.sign(body)))


def _private_file(key: Ed25519PrivateKey, *, comment: str) -> str:
    """OpenSSH's PROTOCOL.key, unencrypted. The two check numbers only have to be equal."""
    public = _public(key)
    check = hashlib.sha256(b"check" + public).digest()[:4]
    inner = check * 2 + _public_blob(public) + _string(_seed(key) + public) + _string(comment.encode())
    inner += bytes(range(1, _BLOCK - len(inner) % _BLOCK + 1)) if len(inner) % _BLOCK else b""
    blob = b"".join(
        [
            b"openssh-key-v1\0",
            _string(b"none"),
            _string(b"none"),
            _string(b""),
            struct.pack(">I", 1),
            _string(_public_blob(public)),
            _string(inner),
        ]
    )
    text = base64.b64encode(blob).decode()
    lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}\n-----END OPENSSH PRIVATE KEY-----\n"
