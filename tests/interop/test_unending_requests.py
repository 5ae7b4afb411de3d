"""Slow senders are cut off. They began with the tests of hostile input, which they must not have disturbed."""

from __future__ import annotations

from tests.interop.slow import PATIENCE, Dripper


def test_slow_senders_were_cut_off(drippers: dict[str, Dripper]) -> None:
    for dripper in drippers.values():
        dripper.join(PATIENCE)
    lasted = {kind: dripper.seconds for kind, dripper in drippers.items()}
    assert None not in lasted.values(), lasted
