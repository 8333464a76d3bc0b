"""Checks of agents and clients against the protocol, and the means to make them.

    cases  requirements  schemas  watch          what is judged, and how: data from `spec/`, and pure Python
    conversation (we ask an agent)    part (we answer a client)
    checks*  client_*  explore  replay  fuzz     the runs
    reports                                      table, JSON, JUnit, HTML

An agent is driven as a client would drive it, one fresh process for each check; a client is started against an agent
that follows a script. Every text is checked against the schema and blamed on who said it. A check that found nothing
to judge says so, and none waits longer than its time.

It knows the protocol from `spec/` alone, neither from the generated models nor from the dialects, so that it is a
second opinion on both.
"""
