"""`laguna serve`: one Laguna for every program of this machine that speaks OpenAI's `/v1`.

    command ─► app ─► door                 listening, who may come in, and how much of it
       └──► patient                        heads of requests that do not come
                ├──► chat, completions     one answer: what was asked of the model, and what it says, in that form
                │      ├──► asked          a request's fields; what cannot be kept is refused, not passed over
                │      └──► recollection   an answer that comes back, known again
                ├──► sending               an answer at once or as a stream of events, until nobody listens
                └──► refused               what goes wrong, as a status and a body

`POST /v1/chat/completions` (tools, reasoning, streams), `POST /v1/completions`, `GET /v1/models`, `GET /health`. It is
starlette on uvicorn (the extra `serve`), and of our own no more than what they have no words for.

What it promises. This machine only, no web page and no rebound name, unless options say otherwise; tokens compared in
constant time; each principal's conversations are cached apart. Whoever hangs up, or takes nothing for a minute, stops
the model within a step. Where no tools are offered, or with `tool_choice` none, no call comes. Nothing is cut silently:
an error in the middle of a stream is an event that says so. All that queues is bounded (`Limits`): one too many is told
429 and when to come again.
"""
