"""Tables of the settings file, one module a table: what may stand in each, and what the rooms below get from it.

`opencertd.config` puts them together. Each table refuses by the name of its key what no daemon could go by; what needs
the network, a clock or the store is made from it later, by whoever wires the room. May import every room below.
"""
