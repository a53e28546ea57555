"""The commands of `abi`."""
