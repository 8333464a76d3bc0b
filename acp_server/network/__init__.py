"""The agent for clients that are somewhere else: listening, and judging who comes.

    serve, bridge ─► serving ─► server ─► websocket_door                              one WebSocket a connection
                                  │  └──► http_door ─► http1, http2 ─► http_endpoint  requests and streams of events
                                  │                                    └► http_connection ─► outbox
                                  └─► gate, crowd, visits         who may come in; how many; those who are there
    serving ─► admission ─► gate                                  the same, as command lines say it

A `Server` accepts connections, counts and secures them, and hands each to the door that it came to. Whatever the door,
the gate judges a request before anything is read of it, and who is let in is hosted by `visits` until they go, or the
server does. Over HTTP a connection is many requests: what is posted is received, and what is said waits in the outbox
of its session until the stream of that session takes it.

HTTP is spoken by `h11` and `h2`, which do no I/O, on the streams that WebSocket has too: the same limits hold, before
a request is whole and while an answer is not taken. (hypercorn 0.18, tried first, ended every stream of an HTTP/2
connection when it refused one request before its body had come.)

What happens to a session whose connection is lost is told in `acp_server.shelter`.
"""
