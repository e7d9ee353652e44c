"""What `export.modelfile` stands on: the Modelfile's grammar, Go's templates as Ollama renders them, and the model families.

lexer, parser, go     the part of Go's text/template that chat templates use: tokens, tree, execution with a budget
functions             its built-in functions and the two dates that Ollama adds
ollama                the values that Ollama gives to a template, and its older way of rendering turn by turn
reader                the grammar of a Modelfile, with its traps
families              the templates of modelfiles/
shapes                the twelve conversations over which two templates must agree
"""
