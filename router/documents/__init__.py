"""Documents the user added: read, cut into chunks, searched by words and meaning, put before the model, and cited.

documents = Documents(store, engines.get("llamacpp").embed, settings.documents)     router/documents/library.py
documents.add(Path("README.md"))
passages = documents.search("how is it installed?", 4)
context = context_of(passages)                                                     router/documents/attach.py
"""
