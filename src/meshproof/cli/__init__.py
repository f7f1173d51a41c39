"""The `meshproof` command, one module per subcommand."""
