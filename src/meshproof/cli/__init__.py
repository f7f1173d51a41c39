"""The `meshproof` command, one file for each subcommand."""
