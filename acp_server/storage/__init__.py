"""Where sessions are kept: what a store promises, and the stores that there are.

    opening ─► memory  journal  sqlite  postgres     by name; in this process; in files; in one file; on any machine
                  │       │       └─► database ─► writer ─► tables     who holds a session; the thread that writes
                  │       │              └─► schema                    the tables, and what they were before
                  ├───────┴──────────────┴─► store  owned_store        the promises; as one principal sees them
                  └─► packed ─► record ◄─ history                      a log: compressed; as it is written and read

A log is entries in the order in which they were told, each kept before it is; what they mean only `history` knows. A
turn whose process died is ended when its session is opened again: its open calls have failed, and the user, the model
and the client that asked are told that it was cut short.

Which store:

- **Files** (the default): one process. Others of the machine may read and list what it holds, and open it when it has
  ended. On the disk when a turn has ended; what was told before survives a kill.
- **SQLite**: the processes of one machine. Of the same safety.
- **PostgreSQL**: any number of processes of any number of machines. On the disk before it is told.

Where processes share a store, each session has one owner at most:

- A process says every tenth of its lease (`--lease`, 10 s) that it is alive. When it has not for the whole of it, by
  the database's clock, its sessions are free. One that ends in order frees them at once.
- Whoever takes a session raises its fence, and an entry is only written under the fence of its writer. So an owner that
  was frozen, or cut off, cannot write one more; and as everything is kept before it is told, and a call is told before
  its tool runs, it can tell and begin nothing either. When it learns of it, its turn ends with an error.
- An owner that cannot reach the database waits, and its turns with it: nothing new is told or begun, and a cancelled
  turn ends all the same. When the database is back it goes on, if nobody has its sessions; after a minute it gives
  them up. The one call that is at work may go on meanwhile.

What becomes of a session whose client comes to another process (`acp_server.sessions`, `acp_server.shelter`):

- its owner is dead: it is taken over within a second of the end of the lease, and its turn was cut short;
- it is idle, and waits for its client: its owner is asked, and hands it over at the next beat, within a second;
- its turn runs, or a client uses it there: the answer, after 3 s, is -32600 with `retryAfter` in its data. The turn
  goes on. Our client connects anew, for a minute (`Reconnect.patience`), until it comes to the owner, or the turn is
  over and the session is handed over, with all of the turn and how it ended;
- it is closed, archived or deleted there: its owner cancels the turn and lets go of it, unless a client uses it. Then
  closing it there changes nothing, and archiving, renaming or deleting it is refused as opening it is. Files cannot be
  asked for: what another process holds is refused at once, whether its client is there or not.
"""
