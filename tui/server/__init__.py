"""The router as an HTTP server: OpenAI's and Ollama's APIs on one port, over the one door of every face, Session.ask.

    connection ──► protocol.py ──► gate.py ──► app.py ──► openai.py, ollama.py ──► desk.py ──► Session.ask, in a thread
    (slow clients)             (host, origin, token)   (what the client wants)     (queue)     lines.py: whose turn it is

Not covered: TLS and users (put a proxy in front), more than one process, pulling and creating models.
"""
