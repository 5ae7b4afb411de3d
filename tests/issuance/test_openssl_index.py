"""Lines of index.txt mean here what they mean to `openssl ca`; anything else is refused with its line number."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opencertd.errors import StartError
from opencertd.issuance.openssl_index import (
    LONGEST_LINE,
    IndexEntry,
    parse_line,
    parse_revocation,
    parse_subject,
    parse_time,
    read_index,
)
from opencertd.model.certificates import Revocation, RevocationReason

GOOD = "V\t300131120000Z\t\t0A\tunknown\t/CN=a"
AT = datetime(2023, 1, 1, tzinfo=UTC)


def read(text: bytes) -> list[IndexEntry]:
    return list(read_index(io.BytesIO(text), "index.txt"))


def test_each_status() -> None:
    text = "\n".join(
        (
            "# a comment",
            "V\t300131120000Z\t\t01\tunknown\t/C=DE/O=Example/CN=a.example",
            "R\t20510131120000Z\t230101000000Z,superseded\t02\tunknown\t/CN=b",
            "",
            "E\t200131120000Z\t\tC65F307A706DA7EA2EE5ADF2FD26D772\tunknown\t/CN=c\r",
        )
    )
    assert read(text.encode()) == [
        IndexEntry(2, 1, datetime(2030, 1, 31, 12, tzinfo=UTC), None, "CN=a.example,O=Example,C=DE"),
        IndexEntry(3, 2, datetime(2051, 1, 31, 12, tzinfo=UTC), Revocation(AT, RevocationReason.SUPERSEDED), "CN=b"),
        IndexEntry(5, 0xC65F307A706DA7EA2EE5ADF2FD26D772, datetime(2020, 1, 31, 12, tzinfo=UTC), None, "CN=c"),
    ]


@pytest.mark.parametrize(
    ("text", "reason", "since"),
    [
        ("230101000000Z", RevocationReason.UNSPECIFIED, None),
        ("20230101000000Z,unspecified", RevocationReason.UNSPECIFIED, None),
        ("230101000000Z,keyCompromise", RevocationReason.KEY_COMPROMISE, None),
        ("230101000000Z,CACompromise", RevocationReason.CA_COMPROMISE, None),
        ("230101000000Z,KEYCOMPROMISE", RevocationReason.KEY_COMPROMISE, None),
        ("230101000000Z,cessationOfOperation", RevocationReason.CESSATION_OF_OPERATION, None),
        ("230101000000Z,certificateHold", RevocationReason.CERTIFICATE_HOLD, None),
        ("230101000000Z,holdInstruction,holdInstructionReject", RevocationReason.CERTIFICATE_HOLD, None),
        ("230101000000Z,keyTime,20220101000000Z", RevocationReason.KEY_COMPROMISE, datetime(2022, 1, 1, tzinfo=UTC)),
        ("230101000000Z,CAkeyTime,20220101000000Z", RevocationReason.CA_COMPROMISE, datetime(2022, 1, 1, tzinfo=UTC)),
        ("230101000000Z,removeFromCRL", RevocationReason.UNSPECIFIED, None),  # revoked, whatever that was to mean
    ],
)
def test_reasons(text: str, reason: RevocationReason, since: datetime | None) -> None:
    assert parse_revocation(text) == Revocation(AT, reason, since)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("V\t300131120000Z\t\t0A\tunknown", "5 fields"),
        (GOOD + "\tmore", "7 fields"),
        (GOOD.replace("V", "X"), "'X' is none of V"),
        (GOOD.replace("V", "R"), "revoked, but not when"),
        (GOOD.replace("\t\t", "\t230101000000Z\t"), "but a revocation date"),
        (GOOD.replace("300131120000Z", "300231120000Z"), "'300231120000Z' is not a time"),
        (GOOD.replace("300131120000Z", "300131120000+0100"), "is not a time"),
        (GOOD.replace("300131120000Z", "19400131120000Z"), "is not a time"),
        (GOOD.replace("0A", "-0A"), "'-0A' is not a serial number"),
        (GOOD.replace("0A", ""), "'' is not a serial number"),
        (GOOD.replace("0A", "1" + "0" * 40), "longer than 20 octets"),
        ("R\t300131120000Z\t230101000000Z,boredom\t0A\tunknown\t/CN=a", "'boredom' is not a reason"),
        ("R\t300131120000Z\t230101000000Z,superseded,x\t0A\tunknown\t/CN=a", "is not a reason"),
        ("R\t300131120000Z\t230101000000Z,keyTime\t0A\tunknown\t/CN=a", "'' is not a time"),
        ("\0\xff", "1 fields"),
        ("V" * (LONGEST_LINE + 1), "longer than"),
    ],
)
def test_what_is_malformed_names_its_line(line: str, why: str) -> None:
    with pytest.raises(StartError, match=r"^index\.txt, line 3: ") as caught:
        read(f"{GOOD}\n\n{line}\n{GOOD}".encode())
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (r"/O=B\xC3\xBCcher, S\xC3\xB6hne/CN=a", r"CN=a,O=Bücher\, Söhne"),
        (r"/CN=M\xFCller", "CN=Müller"),  # Latin-1, as old files have it
        ("/O=a/b/CN=http://c", "CN=http://c,O=a/b"),
        ("/emailAddress=a@b/1.2.3.4=c", "1.2.3.4=c,1.2.840.113549.1.9.1=a@b"),
        (r"/CN=a\x00\x1B[31m", "CN=a\ufffd\ufffd[31m"),  # nothing that steers a terminal
        ("C = DE, CN = a", "C = DE, CN = a"),
        ("", ""),
    ],
)
def test_subjects(text: str, subject: str) -> None:
    assert parse_subject(text) == subject


def test_a_tab_in_a_subject_is_escaped() -> None:
    assert parse_line("V\t300131120000Z\t\t0A\tunknown\t/CN=a\\\tb").subject == "CN=a\tb"


@given(st.binary(max_size=300))
@example(b"V\t\xff\t\t0A\tunknown\t/CN=a")
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        entries = read(data)
    except StartError as error:
        assert str(error).startswith("index.txt, line ")
    else:
        assert all(entry.line >= 1 and 0 <= entry.serial < 1 << 160 for entry in entries)


TIMES = st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))


@given(TIMES)
def test_times_are_read_as_written(moment: datetime) -> None:
    assert parse_time(f"{moment.year:04}{moment:%m%d%H%M%S}Z") == moment
    if moment.year < 2050:
        assert parse_time(f"{moment.year % 100:02}{moment:%m%d%H%M%S}Z") == moment


@given(
    st.integers(0, (1 << 160) - 1),
    TIMES,
    st.text(st.characters(codec="ascii", exclude_characters="\t\r\n"), max_size=80),
)
def test_any_line_of_the_right_form_is_an_entry(serial: int, expires: datetime, subject: str) -> None:
    line = f"V\t{expires.year:04}{expires:%m%d%H%M%S}Z\t\t{serial:X}\tunknown\t{subject}"
    if subject.startswith("\\") or "\\\t" in line:
        return
    (entry,) = read(line.encode())
    assert (entry.serial, entry.not_after, entry.revocation) == (serial, expires, None)
