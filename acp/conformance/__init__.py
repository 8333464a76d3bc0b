"""Checks of agents and clients against the protocol, and the means to make them.

    cases  patterns  requirements  schema_check    what is judged: data from `spec/`, and how it is read
    verdicts                                       what a check is, and what came of it
    agent/  client/                                the runs: we are an agent's client, or a client's agent
    exploring/  replay                             conversations that nobody wrote, and one played again
    report/                                        terminal, JSON, JUnit, HTML

An agent is driven as a client would drive it, one fresh process for each check; a client is started against an agent
that follows a script. Every text is checked against the schema and blamed on who said it. A check that found nothing
to judge says so, and none waits longer than its time.

It knows the protocol from `spec/` alone, neither from the generated models nor from the dialects, so that it is a
second opinion on both.
"""
