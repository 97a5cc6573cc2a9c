"""What the command line can do, a verb a file: `run(options)` returns the exit status. Like `rtl.top` they join rtl, model and boards."""
