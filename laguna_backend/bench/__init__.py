"""How fast it goes and how exact it is, by commands.

slice ─► peers ─► timing                    `laguna bench`: a slice of the real width, and peers on the same weights
  ├────► turns                              `laguna turns`: the engine's conversations, company and guesses
  └────► fidelity                           `laguna fidelity`: what an FP8 cache or packed weights change
"""
