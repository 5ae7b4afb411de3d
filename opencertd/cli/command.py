"""The top of the command line: its groups, and one line on standard error for whatever goes wrong below it."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Any

import click

from opencertd import __version__
from opencertd.cli import (
    acme,
    acme_eab,
    acme_paused,
    audit,
    ca,
    cert,
    certificate,
    crl,
    csr,
    est,
    est_approval,
    est_certificates,
    est_keygen,
    est_otp,
    est_wishes,
    keys,
    ocsp,
    users,
)
from opencertd.client.errors import ClientError
from opencertd.errors import Refusal, StartError, sentence_of


class OneLineGroup(click.Group):
    """Turns what commands raise into `Error: SENTENCE` and exit code 1; a traceback is for who asks for it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                if not sys.warnoptions:
                    warnings.simplefilter("ignore")  # they speak to developers; standard error is for one line
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except (ClientError, StartError, Refusal) as error:
            raise click.ClickException(one_line(str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise click.ClickException(one_line(sentence_of(error))) from error
        except Exception as error:
            if ctx.params.get("traceback"):
                raise
            what = f"{type(error).__name__}: {error}"
            raise click.ClickException(one_line(f"unexpected: {what} (--traceback shows where)")) from error


def one_line(text: str) -> str:
    """`text` on one line, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


@click.group(
    cls=OneLineGroup,
    name="opencert",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  opencert generate-keys --out www.key
  opencert create-csr --key www.key --san dns:www.example.com --out www.csr
  opencert est-enroll --server https://ca.example:5001 --trust-anchors trust-anchors.pem \\
      --user alice --csr www.csr --out www.pem
  opencert print-cert www.pem

\b
A file named - is standard input or output. The daemon itself: twistd -n opencert --help
Completion in bash: eval "$(_OPENCERT_COMPLETE=bash_source opencert)" (or zsh_source, fish_source)""",
)
@click.version_option(__version__, prog_name="opencert")
@click.option("--traceback", is_flag=True, help="Show where an unexpected error comes from.")
def main(traceback: bool) -> None:
    """Keys, requests and certificates: make them, read them, get them from a CA by EST, revoke and hold them.

    And the CA's audit log: verify it and export it.
    """


for command in (
    keys.generate_keys,
    csr.create_csr,
    certificate.print_cert,
    est.est_enroll,
    est.est_reenroll,
    est_certificates.est_server_certificates,
    est_wishes.est_csrattrs,
    est_keygen.est_serverkeygen,
    est_approval.est,
    cert.cert,
    users.user,
    ca.ca,
    audit.audit,
    crl.crl,
    ocsp.ocsp,
    acme.acme,
):
    main.add_command(command)
est_approval.est.add_command(est_otp.otp)
acme.acme.add_command(acme.account)
acme.acme.add_command(acme_eab.eab)
acme.acme.add_command(acme_paused.paused)
