"""A model behind an OpenAI-compatible `/v1`: vLLM, SGLang, llama.cpp's server, Ollama, `laguna serve` and the like.

    backend ─► exchange ─► endpoint             a step; one request, its retries and time limits; where it goes
      │           └─► events  refusal           bytes as server-sent events; a status and a body in words
      ├─► asking ─► traits                      a conversation as a request; what an endpoint was found to take
      ├─► answer ─► raw                         what comes back, as parts; calls and thoughts left in the text
      └─► discovery                             which model there is, and how much it can be shown

What it promises, besides what `acp_server.model` does:

- **Nothing hangs**: 10 s to connect, 600 s for the first token, 120 s between bytes after it; the latter two are
  options. A keep-alive does not count as a token.
- **Retries** only before the first part, four by default, with jitter; what the endpoint says in Retry-After holds.
- **Cancelling closes the response**, which is what makes these servers stop.
- **An answer that was cut** is an error, never a shorter answer: without a finish reason or `[DONE]`, or with a half
  tool call, which then says what is wrong with it.
- **Fields that an endpoint refuses** (`stream_options`, `top_k`, `chat_template_kwargs`…) are left out from then on.
- **Secrets**: the key comes from an environment variable or a file, goes into one header, over TLS or to this machine,
  and is cut out of every message. The URL may not hold one.

One promise cannot be kept from here: how a server encodes text is its own affair, so a file that spells a control tag
may reach a foreign model as that tag. For a Laguna behind another server than ours, tags in prompts and results are
broken by a backslash, and the model is told so; ours keeps them apart by itself.
"""
