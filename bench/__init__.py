"""What the daemon can do in a second, on one worker: `python -m bench` prints a table and writes JSON.

`plan` says what is measured, in which order; `ocsp`, `acme` and `est` are the loads; `generators` runs a load in
several processes that start together; `measure` reads what the server spent; `issuance` measures the core and
`key_types` keys without a server; `report` prints and writes.
The load comes from as many processes as the machine can spare, over kept connections, with prepared keys; its own CPU
share is printed, since a rate means nothing when the client was the bottleneck.
"""
