"""Where sessions are kept: what a store promises, and the stores that there are.

    opening ─► memory  journal  sqlite  postgres     by name; in this process; in files; in one file; on any machine
                  │       │       └─► database ─► writer ─► tables     who holds a session; the thread that writes
                  │       │              └─► schema                    the tables, and what they were before
                  └───────┴──────────────┴─► store  owned_store        the promises; as one principal sees them
    history ─► record                                                  a session's log, as it is written and read

A log is entries in the order in which they were told, each kept before it is; what they mean only `history` knows. A
turn whose process died is ended when its session is opened again: its open calls have failed, and the user, the model
and the client that asked are told that it was cut short.

Which store:

- **Files** (the default): one process. Others of the machine may read and list what it holds, and open it when it has
  ended. On the disk when a turn has ended; what was told before survives a kill.
- **SQLite**: the processes of one machine. Of the same safety.
- **PostgreSQL**: any number of processes of any number of machines. On the disk before it is told.
"""
