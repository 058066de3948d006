"""The sample database of EISV-Lumen: a script that always writes the same."""
