"""Each MUST and SHOULD of RFC 5280's CRL profile that binds a CRL issuer, and the check that shows it.

`requirements.py` lists what §5 asks for (and what §3.3 and §4.2.1.13 say of CRLs), in our words; the `test_rfc*.py`
beside it show it, one check for each; `not_done.py` says what is left out on purpose, and why. `made.py` has CRLs of
every kind to look at. `test_complete.py` holds that nothing is missing.
"""
