"""What the listeners serve, built from settings and from what the worker has: one module an edge.

`parts` names what every edge is given; `authentication` says who is asking; `site` puts the edges in the order in which
paths are looked up. May import every room below; knows nothing of the worker's life (`opencertd.wiring`).
"""
