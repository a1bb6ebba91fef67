"""Tool results in fewer tokens that say the same: from them and what came before, what they said can be had back."""
