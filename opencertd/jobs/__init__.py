"""Work that is owed: a table of jobs with leases, and the LoopingCall that claims and does them.

Any worker may do any job; a lease says who is at it, and ends when that worker dies. May import: level 0.
Serves: ACME validation and finalization, CRL publishing. Leaves out: what a job means (its handler is passed in).
"""
