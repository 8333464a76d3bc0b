"""`acp chat`: a conversation with an agent in the terminal, by Textual (extra `chat`).

    command ─► app ─► transcript ─► entries     the options; the application; the conversation; what is in it
                 ├──► composer ─► completion    where the user writes; commands and files by their first letters
                 ├──► dialogs                   permission, forms, options, sessions
                 └──► status                    which agent, what it does, how full its context is

It draws the session's snapshot and keeps no state of the conversation of its own, so that what is loaded, replayed or
told again over another connection looks as it did live. Whatever an agent, a model or a file wrote is shown and never
obeyed (`cli.visible`): no escapes, no markup, no links that open by themselves.
"""
