"""The agent's own tools: reading, searching and changing files, running commands, keeping a plan.

Each tool is one file with a `Tool`: what the model is told, and a `prepare` that works out what a call would
do and changes nothing. Files are reached only through the session's `Workspace`.
"""

from .toolbox import TOOLS, Toolbox

__all__ = ["TOOLS", "Toolbox"]
