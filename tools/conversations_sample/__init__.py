"""The sample of conversations: hand-written dialogues in the layouts of the exports."""
