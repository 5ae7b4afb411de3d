"""`opencert generate-keys`, and how every command makes and reads private keys."""

from __future__ import annotations

import sys

import click
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.cli.files import OutputFile, check_different, prompt_secret, read_input, read_secret, report, shown
from opencertd.cli.options import force_option, key_kind_options, out_option
from opencertd.keys.files import encode_private_key, load_private_key
from opencertd.keys.kinds import KINDS, PrivateKey, kind_of, label_of, new_rsa_key


def new_key(kind: str | None, size: int | None, curve: str | None) -> PrivateKey:
    """A new key; `size` alone means RSA, nothing at all EC P-256. Raises a usage error when they contradict."""
    kind = kind or ("rsa" if size else "ec")
    if size and kind != "rsa":
        raise click.UsageError("--size belongs to --type rsa; an EC key takes --curve")
    if curve and kind != "ec":
        raise click.UsageError("--curve belongs to --type ec; an RSA key takes --size")
    if kind == "rsa":
        return new_rsa_key(size or 3072)
    return KINDS[(curve or "P-256").lower() if kind == "ec" else kind].make()


def new_key_like(key: PrivateKey) -> PrivateKey:
    """A new key of the same kind and size."""
    if isinstance(key, rsa.RSAPrivateKey):
        return new_rsa_key(max(key.key_size, 2048))
    return kind_of(key.public_key()).make()


def describe_key(key: object) -> str:
    """A public key: `EC P-256`, `RSA 3072`, `ML-DSA-65`, or the kind's own name for others."""
    try:
        return label_of(key)
    except ValueError:
        return type(key).__name__.removesuffix("PublicKey")


def read_key(path: str, passphrase_file: str | None) -> PrivateKey:
    """The private key in a file; asks for a passphrase at the terminal when it needs one. Raises StartError."""
    data = read_input(path)
    passphrase = read_secret(passphrase_file, "passphrase") if passphrase_file else None
    if passphrase is None and b"ENCRYPTED" in data and sys.stdin.isatty():
        passphrase = prompt_secret(f"passphrase of {shown(path)}", "--passphrase-file")
    return load_private_key(data, passphrase.encode() if passphrase else None, shown(path))


@click.command(
    "generate-keys",
    short_help="Make a private key.",
    epilog="""\b
Examples:
  opencert generate-keys --out www.key
  opencert generate-keys --type rsa --size 4096 --out www.key --public-out www.pub
  opencert generate-keys --type ml-dsa-65 --out www.key
  opencert generate-keys --curve P-384 --out - | ssh host 'umask 77; cat > www.key'""",
)
@key_kind_options
@out_option("the private key (PEM, mode 0600)")
@click.option("--public-out", metavar="FILE", help="Write the public key too.")
@click.option("--passphrase-file", metavar="FILE", help="Encrypt the key with the passphrase on the file's first line.")
@force_option
def generate_keys(
    *,
    kind: str | None,
    size: int | None,
    curve: str | None,
    out: str,
    public_out: str | None,
    passphrase_file: str | None,
    force: bool,
) -> None:
    """Make a private key, and its public key if wanted."""
    check_different(out=out, public_out=public_out)
    passphrase = read_secret(passphrase_file, "passphrase").encode() if passphrase_file else None
    with OutputFile(out, private=True, force=force) as private_file:
        key = new_key(kind, size, curve)
        if public_out is None:
            private_file.commit(encode_private_key(key, passphrase))
        else:
            with OutputFile(public_out, force=force) as public_file:
                private_file.commit(encode_private_key(key, passphrase))
                public_file.commit(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    report(f"{describe_key(key.public_key())} key written to {shown_output(out)}")


def shown_output(path: str) -> str:
    """What to call an output in a sentence."""
    return "standard output" if path == "-" else path
