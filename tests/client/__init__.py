"""The EST client: its words in memory, its trust and its limits over real TLS on loopback."""
