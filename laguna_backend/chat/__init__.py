"""Conversations and tokens: the checkpoint's own template and tokenizer, and what the model wrote, understood.

    encoding ─► template ─► sandbox             a conversation as ids, by a template that may be a stranger's
      └► guard  tokenizer                       no text in it forges a control token
    parser ─► toolcall ─► coercion              ids as thoughts, text and tool uses; arguments as their schema says

No torch here.
"""
