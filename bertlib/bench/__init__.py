"""How fast it all is, and what helps: nothing that a run or a lesson needs."""
