"""The screens of the chat, one file each."""
