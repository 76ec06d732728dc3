"""A certificate authority for one federation: the broker, the coordinator and each agent."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from plantfed_broker.files import PRIVATE, PUBLIC, write_file
from plantfed_shared.errors import StorageError

AUTHORITY_DAYS = 30 * 365
IDENTITY_DAYS = 20 * 365
"""Plants outlive certificates, and one that expires stops the machine it is on.  An identity is
taken back by the revocation list, not by waiting."""

CLOCK_SLACK = timedelta(days=2)
"""Edge devices without a clock battery begin in the past."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and the certificate of its public half."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read two PEM files.

        Raises:
            StorageError: one is missing or damaged.
        """
        try:
            loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise StorageError("not an elliptic curve key", where=str(key))
            return cls(loaded, x509.load_pem_x509_certificate(certificate.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(
                f"certificate or key cannot be read: {error}",
                where=f"{certificate}, {key}",
                hint="Restore both from a backup",
            ) from error

    def save(self, certificate: Path, key: Path) -> None:
        """Write two PEM files.

        Raises:
            StorageError: the folder cannot be written.
        """
        pem = serialization.Encoding.PEM
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        write_file(key, self.key.private_bytes(pem, pkcs8, plain), PRIVATE)
        write_file(certificate, self.certificate.public_bytes(pem), PUBLIC)


def new_authority(federation: str) -> Identity:
    """A new certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"PlantFed {federation}")
    usage = _usage(signs_certificates=True)
    builder = (
        _builder(name, key.public_key(), AUTHORITY_DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Identity(key, builder.sign(key, hashes.SHA256()))


def issue_server(
    authority: Identity, host: str, key: ec.EllipticCurvePrivateKey | None = None
) -> Identity:
    """The broker's certificate, valid for its host and for localhost.

    Args:
        authority: signs it.
        host: name or address as clients know it.
        key: of an earlier certificate, to keep it.
    """
    names = [_alternative(name) for name in dict.fromkeys((host, "localhost", "127.0.0.1", "::1"))]
    return _issue(authority, host[:64], ExtendedKeyUsageOID.SERVER_AUTH, names, key)


def issue_client(authority: Identity, user: str) -> Identity:
    """A certificate whose common name is the user the broker takes its bearer for."""
    return _issue(authority, user, ExtendedKeyUsageOID.CLIENT_AUTH, [])


def revocation_list(authority: Identity, revoked: Sequence[int]) -> bytes:
    """The PEM list of serial numbers the broker must refuse."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - CLOCK_SLACK)
        # A list past its date makes the broker refuse everybody, so it lasts as long as the CA.
        .next_update(authority.certificate.not_valid_after_utc)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pin(certificate: x509.Certificate) -> str:
    """SHA-256 of the public key, in the form NATS pins it."""
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    return digest.finalize().hex()


def _issue(
    authority: Identity,
    common_name: str,
    purpose: x509.ObjectIdentifier,
    names: list[x509.GeneralName],
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Identity:
    key = key or ec.generate_private_key(ec.SECP256R1())
    issuer_key = authority.key.public_key()
    builder = (
        _builder(_name(common_name), key.public_key(), IDENTITY_DAYS)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Identity(key, builder.sign(authority.key, hashes.SHA256()))


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
