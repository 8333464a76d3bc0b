"""The editor's side of a conversation, part by part: a part that is given is a capability that is advertised.

    host ─► local                               `Host`; files on this machine's disk
    terminals ─► command ─► processes           commands, their output, and all that they started
      └► terminals_v1                           the same behind version 1's `terminal/*`
    elicitation                                 forms and links for the user

A part is a small Protocol, so that an editor puts its own in the place of ours.
"""
