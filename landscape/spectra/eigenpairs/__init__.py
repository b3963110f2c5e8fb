"""What eigsh is made of: the pairs that are wanted, their search, how sure they are, and those inside a spectrum."""
