"""The parts of export.exporting.

source    what is exported, and the trained model it is held against
steps     what an export tells while it runs
forms     which forms there are, and the room that they take
judging   the checks of the task
course    the export from adapter to checked files
described the Modelfile and the licence
"""
