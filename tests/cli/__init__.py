"""The `opencert` command: local commands in process, checked with openssl; EST commands as processes of their own."""
