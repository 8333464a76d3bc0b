"""laguna-nano: the small Laguna that ships with the package, and everything that made it.

`names` draws identifiers, paths and texts; `world` is a simulated workspace whose tools answer as the agent's do;
`tasks` phrases requests and plays the right conversation; `transcript` turns one into token ids; `train` has them
learnt (`laguna train nano`) as the package of that name trains any model; `evaluate` measures the result, in the
simulator and through the real agent (`laguna eval nano`). Everything is drawn from a seed; training and evaluation draw
from different words, phrasings and seeds.
"""
