"""One file per kind of job: each reads the files a rule names, calls the engine, and writes what the rule promises."""
