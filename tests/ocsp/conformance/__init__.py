"""Each MUST and SHOULD of OCSP's RFCs that binds a responder, and the check that shows it.

`requirements.py` lists what RFC 6960, 9919 and 9654 ask for, in our words; the `test_rfc*.py` beside it show it, one
check for each; `not_done.py` says what is left out on purpose, and why. `test_complete.py` holds that none is missing.
"""
