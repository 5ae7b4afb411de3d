"""Each MUST and SHOULD of ACME's RFCs that binds a server, and the check that shows it.

`requirements_*.py` list what the RFCs ask for, in our words; the `test_*.py` beside them show it, one check for each;
`not_done.py` says what is left out on purpose, and why. `test_complete.py` holds that nothing is missing.
"""
