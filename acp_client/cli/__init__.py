"""`acp exec`: one prompt to an agent from the command line, and what of it is shown.

    exec ─► options  result                     the command; its exit status
      ├► console ─► diffs  visible              a turn on a terminal; nothing from elsewhere is obeyed there
      ├► events                                 a turn as JSON, an event a line
      └► asking  forms ─► keyboard              the agent's questions, answered by the user

It is written with the library and knows no more than any other application.
"""
