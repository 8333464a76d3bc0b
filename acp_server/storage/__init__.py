"""Where sessions are kept: what a store promises, and the stores that there are.

    store ─► journal  owned_store     in memory; on disk, append-only, one writer; as one principal sees it
    history ─► record                 a session's log, as it is written and read; its entries as JSON

A log is entries in the order in which they were told; what they mean only `history` knows.
"""
