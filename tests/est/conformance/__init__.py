"""Each MUST and SHOULD of EST's RFCs that binds a server, and the check that shows it.

`requirements.py` lists what RFC 7030, 8951 and 9908 ask for, in our words; the `test_rfc*.py` beside it show it, one
check for each; `not_done.py` says what is left out on purpose, and why. `test_complete.py` holds that none is missing.
"""
