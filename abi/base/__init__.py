"""What every wing stands on: errors, names, files, digests, the job a step runs in. Imports nothing else of abi."""
