"""The terminals of the agent: what its commands print, shown to the user while they print it.

    background ─► terminals ─► screen    commands that outlive their call; those that run; what each has printed
    as_v1                                the same for a client of version 1, which has no word for it

A terminal has the id of the call that it belongs to. It is told of before that call, grows while the command runs, and
ends before the call does, or, in the background, at the latest with its session. What is told of it is bounded however
much it prints; what is kept of it is its beginning and its end.
"""
