"""Conversations and tokens: the checkpoint's own template and tokenizer, and what the model wrote, understood.

    encoding ─► template ─► sandbox             a conversation as ids, by a template that may be a stranger's
      └► guard  tokenizer                       no text in it forges a control token
    said ─► encoding                            one that is over, as prompts and what was said behind each
    openai                                      messages and tools in OpenAI's form, read
    constrained ─► vocabulary ─► grammar        calls kept to the tools that are offered, token by token
                   json_schema ◄─ json_grammar ◄┘ and arguments that are JSON to their schemas:
                        characters    digits      texts of some length, whole numbers within bounds
    parser ─► arguments                         ids as thoughts, text and tool uses (acp_server.spelled)

No torch here.
"""
