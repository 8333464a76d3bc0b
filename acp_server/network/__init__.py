"""The agent for clients that are somewhere else: listening, and judging who comes.

    serve ─► serving ─► websocket_server ─► gate    options; connections, counted; who may come in
    bridge                                          any stdio agent behind the same server, and the reverse

What happens to a session whose connection is lost is told in `acp_server.shelter`.
"""
